"""Models: loading at a pinned revision, tokenizers, methods."""
