"""Families of pipelines, one file each, and how they are loaded."""
