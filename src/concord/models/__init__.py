"""Classifiers, and what every loaded model has in common."""
