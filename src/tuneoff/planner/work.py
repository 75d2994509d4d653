"""The work of a step: floating-point operations, bytes moved, and calls, whatever the machine that does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from tuneoff.planner.fake import Watching


@dataclass(frozen=True)
class Work:
    """Two FLOPs a multiplication and addition; bytes read and written by what is no view; calls of operations."""

    flops: float = 0.0
    bytes: float = 0.0
    calls: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes, self.calls + other.calls)

    def __mul__(self, times: float) -> Work:
        return Work(self.flops * times, self.bytes * times, self.calls * times)

    def parts(self) -> tuple[float, float, float]:
        return self.flops, self.bytes, self.calls


class CountWork(Watching):
    """Counts the work of everything computed inside it, by torch's own FLOP formulas.

    Kernels in C++ are seen by the results that they fill: these are counted thrice, as read and
    written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.done = Work()

    def watch(self, func: Any, args: Any, kwargs: Any) -> Any:
        out = func(*args, **kwargs)
        if getattr(func, "is_view", False):
            return out
        packet = func._overloadpacket
        flops = 0.0
        if packet in flop_registry:
            flops = float(flop_registry[packet](*args, **kwargs, out_val=out))
        elif packet in FUSED:
            flops = FUSED[packet](args)
        written = _bytes(out)
        read = _bytes((args, kwargs)) if packet not in FACTORIES else 2 * written
        self.done = self.done + Work(flops, read + written, 1.0)
        return out


def _bytes(values: Any) -> float:
    return float(sum(t.numel() * t.element_size() for t in tree_leaves(values) if isinstance(t, torch.Tensor)))


def _attention(args: Any, q: int, k: int, v: int, products: float) -> float:
    """FLOPs of fused attention: `products` of the queries with as many keys, at the head's width."""
    query, key, value = args[q], args[k], args[v]
    batch, heads, queries, width = query.shape
    return 2.0 * products * batch * heads * queries * key.shape[2] * (width + value.shape[3]) / 2


aten = torch.ops.aten
FACTORIES = {aten.empty, aten.empty_like, aten.new_empty, aten.empty_strided}
# Fused attention on the CPU has no formula in torch: 2 products forwards, 5 backwards.
FUSED: dict[Any, Callable[[Any], float]] = {
    aten._scaled_dot_product_flash_attention_for_cpu: lambda a: _attention(a, 0, 1, 2, 2),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda a: _attention(a, 1, 2, 3, 5),
}
