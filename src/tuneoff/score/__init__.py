"""Scores: predictions → figures for each example, then for the whole."""
