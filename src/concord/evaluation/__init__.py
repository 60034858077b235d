"""Evaluation: what a small set is worth, measured by training on it; it knows labelled images and models alone."""
