"""Runs what is missing behind a figure or table of the paper, and draws it."""
