"""Is a distilled set any good: augmentation, protocols, training, soft labels and scores."""
