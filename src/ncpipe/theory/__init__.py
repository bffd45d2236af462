"""The theory stage."""
