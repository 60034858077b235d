"""One of each thing that may be added to concord, each in one file."""
