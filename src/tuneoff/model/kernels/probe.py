"""The self-test of a compiled library, in a process of its own: `python -m tuneoff.model.kernels.probe LIBRARY …`.

The second argument is the OpenMP library that it is linked to, where torch brings one.

A library that was built wrong, or for another processor, ends this process and not a run. Ends with 0 where every
operation that can be told in a line or two of NumPy gives what that does, on rows that no vector register divides.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuneoff.model.kernels.interface import open_library

ROWS, WIDTH, THREADS = 7, 37, 2
Array = NDArray[np.float32]


def main(library: Path, openmp: Path | None) -> None:
    """Load and test the library. Raises AssertionError, and whatever loading raises; or dies."""
    if openmp is not None:
        ctypes.CDLL(str(openmp), mode=ctypes.RTLD_GLOBAL)
    kernels = open_library(library)
    random = np.random.default_rng(0)
    x, scale = _drawn(random, ROWS, WIDTH), _drawn(random, WIDTH)

    y, inverse = np.empty_like(x), np.empty(ROWS, np.float32)
    kernels.rms_norm(False, THREADS, ROWS, WIDTH, _at(x), _at(scale), 1.0, 1e-6, _at(y), _at(inverse))
    _same(y, x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-6) * (scale + 1))

    h = _drawn(random, ROWS, 2 * WIDTH)
    gate, value = h[:, :WIDTH], h[:, WIDTH:]
    gelu = 0.5 * gate * (1 + np.tanh(0.7978845608 * (gate + 0.044715 * gate**3)))
    for kind, active in enumerate([gelu, gate / (1 + np.exp(-gate))]):
        kernels.gated(False, THREADS, ROWS, WIDTH, 2 * WIDTH, _at(gate), _at(value), kind, 0.0, 0, _at(y))
        _same(y, active * value)

    angles, forward = _drawn(random, ROWS, WIDTH - 1), np.arange(ROWS)
    backward = forward[::-1].copy()
    cosines, sines = np.cos(angles), np.sin(angles)
    tables = (_at(cosines), _at(sines), _at(forward), _at(backward))
    kernels.rotate(False, THREADS, ROWS, 1, WIDTH, WIDTH - 1, _at(x), *tables, False, _at(y))
    half = WIDTH // 2
    first, second = x[:, :half], x[:, half:-1]
    c, s = cosines[:, :half], sines[:, :half]
    _same(y[::-1], np.concatenate([first * c - second * s, second * c + first * s, x[:, -1:]], 1))

    kernels.add_dropout(False, THREADS, x.size, _at(x), _at(h), 0.0, 0, _at(y))
    _same(y, x + h.ravel()[: x.size].reshape(x.shape))

    scores, lengths = x.copy(), np.array([WIDTH - 3], np.int64)
    kernels.attention_probabilities(
        False, THREADS, 1, 1, ROWS, WIDTH, _at(scores), None, _at(lengths), False, 0.0, 0, None
    )
    _same(scores[:, :-3], _softmax(x[:, :-3]))

    queries, keys, values = x[:1].copy(), _drawn(random, ROWS, WIDTH), _drawn(random, ROWS, WIDTH)
    lengths[0] = ROWS - 1
    kernels.attend(
        False, THREADS, 1, 1, 1, WIDTH, ROWS * WIDTH, ROWS * WIDTH, _at(queries), _at(keys), _at(values), None, 0,
        None, _at(lengths), 0, 0.0, _at(y),
    )  # fmt: skip
    _same(y[:1], _softmax(queries @ keys[:-1].T) @ values[:-1])
    _test_learning(kernels, random, x)


def _test_learning(kernels: ctypes.CDLL, random: np.random.Generator, x: Array) -> None:
    """The loss, and the optimizer's operations."""
    logits, targets, losses = x.copy(), np.arange(ROWS), np.empty(ROWS, np.float32)
    kernels.cross_entropy(False, THREADS, ROWS, WIDTH, _at(logits), _at(targets), _at(losses))
    _same(losses, -np.log(_softmax(x)[np.arange(ROWS), targets]))

    _same(kernels.squared_norm(False, THREADS, x.size, _at(x)), (x.astype(np.float64) ** 2).sum())

    bits = x.view(np.uint32)
    weights, rests = ((bits + 0x8000) >> 16).astype(np.uint16), bits.astype(np.uint16).view(np.int16)
    firsts, seconds, gradient = np.zeros_like(x), np.zeros_like(x), _drawn(random, ROWS, WIDTH)
    settings = (1.0, 0.9, 0.99, 1e-8, 1.0, 0.01, 1.0)
    arrays = [_at(array) for array in (weights, rests, gradient, firsts, seconds)]
    kernels.adamw(False, THREADS, x.size, *arrays, *settings)
    held = (weights.astype(np.uint32) << 16) + rests.astype(np.int32).view(np.uint32)
    _same(held.view(np.float32), x - 0.01 * 0.1 * gradient / (0.1 * np.abs(gradient) + 1e-8))


def _drawn(random: np.random.Generator, *shape: int) -> Array:
    return random.normal(size=shape).astype(np.float32)


def _softmax(values: Array) -> Array:
    powers = np.exp(values - values.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def _at(array: NDArray[Any]) -> int:
    return array.ctypes.data


def _same(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
