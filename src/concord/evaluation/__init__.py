"""Is a small set any good: students trained on it, and scores of what they reach."""
