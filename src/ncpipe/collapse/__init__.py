"""The collapse stage."""
