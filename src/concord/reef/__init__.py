"""Reef, the embedded default: a procedural world with known attributes, its small models and how they were trained."""

from concord.reef.dataset import real_set, test_set

__all__ = ["real_set", "test_set"]
