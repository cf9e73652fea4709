"""The version, on its own so that packaging reads it without importing us."""

__version__ = "0.2.0.dev0"
