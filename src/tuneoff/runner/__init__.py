"""A recipe → a run: prepare once, then each trial in a process of its own."""
