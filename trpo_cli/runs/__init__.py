"""A run directory: only this room knows which files it holds."""
