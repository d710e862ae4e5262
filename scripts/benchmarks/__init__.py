"""Measurements for ``scripts/bench``. Each is repeated, paired with a peer or a limit; medians are shown."""
