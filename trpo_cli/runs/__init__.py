"""A run directory; only this room knows its files."""
