"""Phrases from a language model: prompts, one server, and what it answers."""
