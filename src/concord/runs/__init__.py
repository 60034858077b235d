"""Runs: the plan of every image, the store that survives a kill, and the execution that joins them."""
