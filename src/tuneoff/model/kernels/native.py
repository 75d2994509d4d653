"""CPU kernels in C++, where they can be compiled; where they cannot, PyTorch's operations are used."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from tuneoff.model.kernels.library import KernelError, load


def native() -> ctypes.CDLL | None:
    """The compiled library; None where there is none."""
    library, _ = _loaded()
    return library


def why_not_native() -> str | None:
    """Why there is no compiled library, in a few words; None where there is one."""
    _, reason = _loaded()
    return reason


def call(name: str, like: torch.Tensor, *arguments: Any) -> Any:
    """Call an operation on contiguous tensors of the element type of `like`; other tensors have types of their own.

    Fake tensors (the planner's) hold no values: there is nothing to compute, and 0.0 is returned.
    """
    if isinstance(like, FakeTensor):
        return 0.0
    function: Callable[..., Any] = getattr(native(), name)
    values = (a.data_ptr() if isinstance(a, torch.Tensor) else a for a in arguments)
    return function(like.dtype == torch.bfloat16, torch.get_num_threads(), *values)


@cache
def _loaded() -> tuple[ctypes.CDLL | None, str | None]:
    try:
        return load(), None
    except KernelError as error:
        return None, str(error)
