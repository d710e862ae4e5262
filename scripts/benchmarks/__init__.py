"""Measurements of this machine for ``scripts/bench``: each in pairs with a peer or a limit, medians of repeats."""
