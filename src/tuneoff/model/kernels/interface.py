"""What the compiled library offers: each operation's arguments, as ctypes passes them. Without torch."""

from __future__ import annotations

import ctypes
from pathlib import Path

POINTER, FLOAT, COUNT, SEED, KIND = ctypes.c_void_p, ctypes.c_float, ctypes.c_int64, ctypes.c_uint32, ctypes.c_int
COMMON = [ctypes.c_bool, ctypes.c_int]  # bf16, threads
ARGUMENTS = {
    "rms_norm": [*COMMON, COUNT, COUNT, POINTER, POINTER, FLOAT, FLOAT, POINTER, POINTER],
    "rms_norm_backward": [*COMMON, COUNT, COUNT, *[POINTER] * 3, FLOAT, *[POINTER] * 3],
    "gated": [*COMMON, COUNT, COUNT, COUNT, POINTER, POINTER, KIND, FLOAT, SEED, POINTER],
    "gated_backward": [*COMMON, COUNT, COUNT, COUNT, *[POINTER] * 3, KIND, FLOAT, SEED, POINTER, POINTER],
    "rotate": [*COMMON, *[COUNT] * 4, *[POINTER] * 5, ctypes.c_bool, POINTER],
    "add_dropout": [*COMMON, COUNT, POINTER, POINTER, FLOAT, SEED, POINTER],
    "attention_probabilities": [
        *COMMON, COUNT, COUNT, COUNT, COUNT, POINTER, POINTER, POINTER, ctypes.c_bool, FLOAT, SEED, POINTER,
    ],
    "attention_probabilities_backward": [*COMMON, *[COUNT] * 4, POINTER, POINTER, FLOAT, POINTER, POINTER],
    "attend": [*COMMON, *[COUNT] * 6, *[POINTER] * 4, COUNT, POINTER, POINTER, COUNT, FLOAT, POINTER],
    "cross_entropy": [*COMMON, COUNT, COUNT, POINTER, POINTER, POINTER],
    "squared_norm": [*COMMON, COUNT, POINTER],
    "adamw": [*COMMON, COUNT, *[POINTER] * 5, *[FLOAT] * 7],
}  # fmt: skip


def open_library(path: Path) -> ctypes.CDLL:
    """The library at `path`, its operations with their types. Raises OSError, or AttributeError where one is missing.

    torch's OpenMP must be loaded before: the library is linked to it.
    """
    library = ctypes.CDLL(str(path))
    for name, arguments in ARGUMENTS.items():
        getattr(library, name).argtypes = arguments
        getattr(library, name).restype = None
    library.squared_norm.restype = ctypes.c_double
    return library
