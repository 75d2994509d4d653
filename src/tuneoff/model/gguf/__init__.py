"""A GGUF file → the same model in `save_pretrained`'s layout, once, in the user's cache."""

from tuneoff.model.gguf.convert import converted

__all__ = ["converted"]
