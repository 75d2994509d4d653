"""The random states of this process: of Python, NumPy, and torch on the CPU and on the device that a trial uses."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def random_states() -> dict[str, Any]:
    """Every random state, as what `torch.load(weights_only=True)` reads."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "device": _device_state(),
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), *map(float, rest)],
        "python": random.getstate(),
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Put back what `random_states` returned. The state of a device that is not there is left out."""
    torch.set_rng_state(states["torch"])
    if states["device"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["device"])
    elif states["device"] is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(states["device"])
    kind, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), int(position), int(has_gauss), gauss))
    random.setstate(states["python"])


@contextmanager
def same_random_states() -> Iterator[None]:
    """Let the block draw random numbers, and put all random states back afterwards."""
    before = random_states()
    try:
        yield
    finally:
        set_random_states(before)


def _device_state() -> torch.Tensor | None:
    if torch.cuda.is_available():
        return torch.cuda.get_rng_state()
    return torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
