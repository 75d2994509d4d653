"""Devices, and what would make an arm fit one that is too small for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tuneoff.errors import TuneoffError

GIB = 2**30


@dataclass(frozen=True)
class Device:
    """A device by name, and the bytes that it has."""

    name: str
    capacity: int


def parse_device(text: str) -> Device:
    """`16GB` → 16 · 10⁹ bytes, `16GiB` → 16 · 2³⁰. Raises TuneoffError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(GB|GiB|MB|MiB)", text.strip(), re.IGNORECASE)
    if not found or float(found[1]) == 0:
        raise TuneoffError(f"--device takes an amount of memory such as 8GB or 24GiB, got {text!r}")
    unit = {"gb": 10**9, "gib": GIB, "mb": 10**6, "mib": 2**20}[found[2].lower()]
    return Device(text.strip(), int(float(found[1]) * unit))


def this_machine() -> Device:
    """The accelerator where there is one, else the memory that this process may use."""
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Device(properties.name, properties.total_memory)
    return Device("this machine", host_memory())


def host_memory() -> int:
    """The bytes of the machine's memory that this process may use, whether others have them now or not."""
    import psutil

    return min(psutil.virtual_memory().total, _group_limit() or 2**62)


def _group_limit() -> int | None:
    """What the control group of a container leaves to it; None where nothing is said."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(path).read_text())
        except (OSError, ValueError):  # not there, or "max"
            continue
    return None
