"""CPU kernels in C++. Compiled on first use if a compiler is found; without one, PyTorch operations are used."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

SOURCE = Path(__file__).with_name("operations.cpp")
FLAGS = ["-O3", "-march=native", "-std=c++17", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC"]
POINTER, FLOAT, COUNT, SEED = ctypes.c_void_p, ctypes.c_float, ctypes.c_int64, ctypes.c_uint32
COMMON = [ctypes.c_bool, ctypes.c_int]  # bf16, threads
ARGUMENTS = {
    "rms_norm": [*COMMON, COUNT, COUNT, POINTER, POINTER, FLOAT, POINTER, POINTER],
    "rms_norm_backward": [*COMMON, COUNT, COUNT, *[POINTER] * 6],
    "gated_gelu": [*COMMON, COUNT, COUNT, POINTER, FLOAT, SEED, POINTER],
    "gated_gelu_backward": [*COMMON, COUNT, COUNT, POINTER, POINTER, FLOAT, SEED, POINTER],
    "add_dropout": [*COMMON, COUNT, POINTER, POINTER, FLOAT, SEED, POINTER],
    "attention_probabilities": [
        *COMMON, COUNT, COUNT, COUNT, COUNT, POINTER, POINTER, POINTER, ctypes.c_bool, FLOAT, SEED, POINTER,
    ],
    "attention_probabilities_backward": [*COMMON, *[COUNT] * 4, POINTER, POINTER, FLOAT, POINTER, POINTER],
    "attend": [*COMMON, *[COUNT] * 5, *[POINTER] * 4, COUNT, POINTER, POINTER],
    "cross_entropy": [*COMMON, COUNT, COUNT, POINTER, POINTER, POINTER],
    "squared_norm": [*COMMON, COUNT, POINTER],
    "adamw": [*COMMON, COUNT, *[POINTER] * 5, *[FLOAT] * 7],
}  # fmt: skip


@cache
def native() -> ctypes.CDLL | None:
    """The compiled library, or None where there is no compiler or it fails. Compiling takes seconds, once a machine."""
    compiler = shutil.which("c++")
    if compiler is None:
        return None
    try:
        library = ctypes.CDLL(str(_built(compiler)))
    except (OSError, subprocess.CalledProcessError):
        return None
    for name, arguments in ARGUMENTS.items():
        getattr(library, name).argtypes = arguments
        getattr(library, name).restype = None
    library.squared_norm.restype = ctypes.c_double
    return library


def call(name: str, like: torch.Tensor, *arguments: Any) -> Any:
    """Call an operation on contiguous tensors of the element type of `like`; other tensors have types of their own.

    Fake tensors (the planner's) hold no values: there is nothing to compute, and 0.0 is returned.
    """
    if isinstance(like, FakeTensor):
        return 0.0
    function: Callable[..., Any] = getattr(native(), name)
    values = (a.data_ptr() if isinstance(a, torch.Tensor) else a for a in arguments)
    return function(like.dtype == torch.bfloat16, torch.get_num_threads(), *values)


def _built(compiler: str) -> Path:
    """The library's path, made whole under a name that tells source, flags and processor."""
    machine = f"{platform.machine()} {_processor()} {torch.__version__}"
    key = hashlib.sha256(SOURCE.read_bytes() + " ".join([*FLAGS, machine]).encode()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = home / "tuneoff" / f"operations-{key}.so"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # torch's own OpenMP, where it brings one: two in a process would fight for the cores.
    own = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        command = [compiler, *FLAGS, str(SOURCE), *map(str, own[:1]), "-o", str(made)]
        subprocess.run(command, check=True, capture_output=True)
        made.replace(path)
    return path


def _processor() -> str:
    """What -march=native depends on: a home folder may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
