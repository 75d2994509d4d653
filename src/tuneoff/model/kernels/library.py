"""The compiled library of CPU kernels: built and tested once for a machine, and loaded only as it was then.

It lies in the user's cache under a name that tells source, compiler, flags and processor, with a record beside it: the
file's hash, or why it could not be built. What is not the recorded file of this user's own is never loaded.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from tuneoff.cache import cache_folder, file_sha256, is_own
from tuneoff.errors import CacheError
from tuneoff.model.kernels.interface import open_library
from tuneoff.records import Record

SOURCE = Path(__file__).with_name("operations.cpp")
FLAGS = ["-O3", "-march=native", "-std=c++17", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC"]
COMPILE_SECONDS, TEST_SECONDS = 180, 120  # what a slow machine needs, many times over
TRIED_AGAIN = 3600  # seconds after which a compiler that failed is tried again


class KernelError(Exception):
    """There is no library: why, in a few words."""


class Built(Record):
    """What building gave: the library's file name and its hash, or else why there is none, and when (seconds)."""

    library: str | None = None
    sha256: str | None = None
    failure: str | None = None
    at: float = 0.0


def load() -> ctypes.CDLL:
    """The library, built first where this machine has none yet, which takes seconds. Raises KernelError."""
    compiler = shutil.which("c++")
    if compiler is None:
        raise KernelError("there is no C++ compiler (c++)")
    try:
        folder = cache_folder("kernels")
        record = folder / f"operations-{_key(Path(compiler))}.json"
        built = _read(record)
        path = _verified(folder, built)
        if path is None:
            if built is not None and built.failure and abs(time.time() - built.at) < TRIED_AGAIN:
                raise KernelError(built.failure)
            path = _build(compiler, folder, record)
        return open_library(path)
    except (OSError, CacheError, AttributeError) as error:
        raise KernelError(str(error)) from None


def _key(compiler: Path) -> str:
    """A hash of all that the library depends on: a home folder may be shared by machines."""
    real = compiler.resolve()
    found = real.stat()
    parts = [SOURCE.read_bytes().hex(), *FLAGS, str(real), str(found.st_size), str(found.st_mtime_ns)]
    parts += [platform.machine(), _processor(), torch.__version__]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    told = ("flags", "Features", "vendor_id", "model", "cpu family", "stepping", "CPU part", "CPU variant")
    first = lines[: lines.index("")] if "" in lines else lines
    return "\n".join(line for line in first if line.startswith(told))


def _read(record: Path) -> Built | None:
    try:
        return Built.read(record)
    except (OSError, ValueError):
        return None


def _verified(folder: Path, built: Built | None) -> Path | None:
    """The recorded library, if it is there, this user's own and unchanged; else None."""
    if built is None or built.library is None:
        return None
    path = folder / built.library
    try:
        found = path.lstat()
        whole = path.parent == folder and is_own(found) and file_sha256(path) == built.sha256
    except OSError:
        return None
    return path if whole else None


def _build(compiler: str, folder: Path, record: Path) -> Path:
    """Compile and test the library, and keep it. Raises KernelError, which is recorded where trying again is no use."""
    # torch's own OpenMP, where it brings one: two in a process would fight for the cores.
    openmp = [str(path) for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))[:1]]
    with tempfile.TemporaryDirectory(dir=folder) as work:
        made = Path(work) / "operations.so"
        try:
            _run([compiler, *FLAGS, str(SOURCE), *openmp, "-o", str(made)], COMPILE_SECONDS, "the C++ compiler")
            if not made.is_file():
                raise KernelError("the C++ compiler made no file")
            test = [sys.executable, "-P", "-m", "tuneoff.model.kernels.probe", str(made), *openmp]
            _run(test, TEST_SECONDS, "the self-test of the compiled kernels")
        except KernelError as error:
            Built(failure=str(error), at=time.time()).write(record)
            raise
        made.chmod(0o600)
        digest = file_sha256(made)
        path = folder / f"{record.stem}-{digest[:16]}.so"
        made.replace(path)
    Built(library=path.name, sha256=digest, at=time.time()).write(record)
    return path


def _run(command: Sequence[str], seconds: float, what: str) -> None:
    """Run a command in a session of its own, all of which ends with it or when its time is over."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        _, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise KernelError(f"{what} did not end within {seconds:g} seconds") from None
    finally:
        if process.poll() is None:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines()
        said = f": {lines[-1]}" if lines else ""
        raise KernelError(f"{what} failed (status {process.returncode}{said})")
