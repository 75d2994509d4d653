"""A GGUF file → the same model in `save_pretrained`'s layout, once, in the user's cache; and a model → a GGUF file."""

from tuneoff.model.gguf.convert import converted, read_back
from tuneoff.model.gguf.write import Held, Origin, check_writable, held_as, write_file

__all__ = ["Held", "Origin", "check_writable", "converted", "held_as", "read_back", "write_file"]
