"""glibc's allocator: quick while time is measured, tidy while memory is.

glibc keeps freed blocks for later, so that the same training peaks 10 to 40 % above what it needs,
by luck of fragmentation. Giving large blocks back at once makes a peak that of live tensors, and
costs twice the time of a step (docs/benchmarks.md). So the timed work runs quick, and memory is
measured over a step of its own. Both settings are the same for every arm, whatever the
environment says. On other systems they change nothing.
"""

from __future__ import annotations

import ctypes
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
_TIDY = 64 * 1024
QUICK_MMAP_BYTES = 32 * 1024 * 1024  # where glibc's own adaptive threshold ends: freed blocks below it are kept


def quick() -> None:
    """Keep freed blocks below 32 MiB for the next request."""
    _set(QUICK_MMAP_BYTES, 2 * QUICK_MMAP_BYTES)


def tidy() -> None:
    """Give back what is free now, and from now on each freed block of 64 KiB or more."""
    _set(_TIDY, _TIDY)


def give_back() -> None:
    """Give back what is free now, and keep the setting."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _set(mmap_threshold: int, trim_threshold: int) -> None:
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_MMAP_THRESHOLD, mmap_threshold)
        libc.mallopt(_TRIM_THRESHOLD, trim_threshold)
        libc.malloc_trim(0)


def _glibc() -> Any:
    try:
        libc = ctypes.CDLL("libc.so.6")
        return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
    except OSError:
        return None
