"""Decoding: a model and inputs → predictions."""
