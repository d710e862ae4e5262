"""One run: its state, its loop, its leader and workers."""
