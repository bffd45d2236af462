"""ncpipe: multi-label neural collapse, reproduced, tested and certified."""

from importlib.metadata import version

__version__ = version("ncpipe")
