"""Data: sources, prompts, tokenising, and an order shared by all arms."""
