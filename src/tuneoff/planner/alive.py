"""How many bytes of new tensors are alive at once: less than `measure.components` tells, in a fraction of its time."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from tuneoff.measure.allocator import QUICK_MMAP_BYTES
from tuneoff.planner.fake import Watching
from tuneoff.planner.process import Held

PRODUCTS = {torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.baddbmm}


class Alive(Watching):
    """Follows the storages that are made inside it.

    Attributes:
        peak: The most bytes of them that were alive at once.
        large: What of these bytes lay in blocks that the allocator gives back once freed.
        products: The kinds of matrix products that were made: operation, shapes, layouts and types.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.large = 0
        self.products: set[tuple[Any, ...]] = set()
        self._now = self._large_now = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def held(self, fixed: int) -> Held:
        """What is held at the peak beside `fixed` bytes that last."""
        return Held(fixed + self.large, self.peak - self.large)

    def watch(self, func: Any, args: Any, kwargs: Any) -> Any:
        out = func(*args, **kwargs)
        if func._overloadpacket in PRODUCTS:
            tensors = [value for value in args if isinstance(value, torch.Tensor)]
            self.products.add((func, *((t.shape, t.stride(), t.dtype) for t in tensors)))
        if not getattr(func, "is_view", False):
            given = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
            for value in tree_leaves(out):
                if isinstance(value, torch.Tensor):
                    self._meet(value.untyped_storage(), given)
        return out

    def _meet(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key, size = id(storage), storage.nbytes()
        if key in given or key in self._known:
            return
        self._known[key] = weakref.ref(storage, lambda _: self._part(key, size))
        self._now += size
        self._large_now += size if size >= QUICK_MMAP_BYTES else 0
        if self._now > self.peak:
            self.peak, self.large = self._now, self._large_now

    def _part(self, key: int, size: int) -> None:
        del self._known[key]
        self._now -= size
        self._large_now -= size if size >= QUICK_MMAP_BYTES else 0


def lasting_bytes(model: Any, optimizer: Any) -> int:
    """Bytes of a model's weights and buffers, and of what its optimizer (None: it has none) holds between steps."""
    held = {id(t.untyped_storage()): t.untyped_storage().nbytes() for t in [*model.parameters(), *model.buffers()]}
    states = [value for states in optimizer.state.values() for value in states.values()] if optimizer else []
    for name in ("rests", "sums"):  # of train.adamw
        states += getattr(optimizer, name, {}).values()
    return sum(held.values()) + sum(t.untyped_storage().nbytes() for t in states if isinstance(t, torch.Tensor))
