"""Pages and sheets of what runs left; nothing is computed anew."""
