"""The group of processes that share the work, and its sums."""
