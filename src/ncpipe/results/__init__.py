"""The results wing: what lies in a results folder, read, checked, compared and cleaned."""
