"""What is measured on a run."""
