"""Products of one input with the weights of several linear layers, low-rank updates included, for the CPU kernels.

What is computed from the layers' input (a norm, a gated activation, dropout) is not kept for the backward pass but
computed again: of a product, its input alone is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tuneoff.model.kernels.native import call
from tuneoff.model.kernels.operations import drawn_seed, dropout, gated, is_native, rms_norm, rows_of, summed_over_rows


@dataclass(frozen=True)
class Linear:
    """A linear layer, with its low-rank update or without: y = x Wᵀ + bias + dropout(x) Aᵀ Bᵀ (Hu et al. 2021,
    equation 3, where B is scaled). `weight` (out, in), `bias` (out), `a` (rank, in), `b` (out, rank); p of dropout.
    """

    weight: Tensor
    bias: Tensor | None = None
    a: Tensor | None = None
    b: Tensor | None = None
    p: float = 0.0


class Preparation(Protocol):
    """What makes the layers' input of some tensors."""

    def compute(self, *tensors: Tensor) -> Tensor:
        """The layers' input (…, in), by operations that autograd follows."""
        ...

    def native(self, *tensors: Tensor) -> Tensor:
        """The same of `tensors` (rows, width) by the C++ kernels, which autograd does not follow."""
        ...

    def gradients(self, gradient: Tensor, needed: Sequence[bool], *tensors: Tensor) -> list[Tensor | None]:
        """The gradients of `tensors`, as far as they are `needed`, from that of the layers' input, which is spent."""
        ...


class AsItIs:
    """One tensor, the input itself."""

    def compute(self, *tensors: Tensor) -> Tensor:
        return tensors[0]

    native = compute

    def gradients(self, gradient: Tensor, needed: Sequence[bool], *tensors: Tensor) -> list[Tensor | None]:
        return [gradient]


@dataclass(frozen=True)
class Norm:
    """The RMS norm of x (…, in), scaled by weight (in) + offset: of x and weight."""

    eps: float
    offset: float

    def compute(self, *tensors: Tensor) -> Tensor:
        x, weight = tensors
        return rms_norm(x, weight, self.eps, self.offset)

    def native(self, *tensors: Tensor) -> Tensor:
        return self._normed(*tensors)[0]

    def gradients(self, gradient: Tensor, needed: Sequence[bool], *tensors: Tensor) -> list[Tensor | None]:
        x, weight = tensors
        _, inverse = self._normed(x, weight)
        sums = x.new_zeros(torch.get_num_threads(), x.shape[-1], dtype=torch.float32) if needed[1] else None
        call("rms_norm_backward", x, *x.shape, gradient, x, weight, self.offset, inverse, gradient, sums)
        return [gradient, None if sums is None else sums.sum(0).to(weight.dtype)]

    def _normed(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The norm, and the inverse of the rms (rows)."""
        y, inverse = torch.empty_like(x), x.new_empty(len(x), dtype=torch.float32)
        call("rms_norm", x, *x.shape, x, weight, self.offset, self.eps, y, inverse)
        return y, inverse


@dataclass(frozen=True)
class Gate:
    """dropout(activation(gate) * value): of gate and value (…, in)."""

    activation: int
    p: float
    seed: int

    def compute(self, *tensors: Tensor) -> Tensor:
        gate, value = tensors
        return gated(gate, value, self.activation, self.p)

    def native(self, *tensors: Tensor) -> Tensor:
        gate, value = tensors
        y = torch.empty_like(gate)
        call("gated", gate, *gate.shape, gate.shape[1], gate, value, self.activation, self.p, self.seed, y)
        return y

    def gradients(self, gradient: Tensor, needed: Sequence[bool], *tensors: Tensor) -> list[Tensor | None]:
        gate, value = tensors
        dgate, dvalue = torch.empty_like(gate), torch.empty_like(value)
        settings = (self.activation, self.p, self.seed)
        call("gated_backward", gate, *gate.shape, gate.shape[1], gradient, gate, value, *settings, dgate, dvalue)
        return [dgate, dvalue]


@dataclass(frozen=True)
class Source:
    """The input of linear layers: tensors that autograd knows, and what makes the input of them."""

    tensors: tuple[Tensor, ...]
    preparation: Preparation

    @classmethod
    def plain(cls, x: Tensor) -> Source:
        """A tensor x (…, in) as it is."""
        return cls((x,), AsItIs())

    @classmethod
    def normed(cls, x: Tensor, weight: Tensor, eps: float, offset: float) -> Source:
        """The RMS norm of x (…, in), scaled by weight (in) + offset."""
        return cls((x, weight), Norm(eps, offset))

    @classmethod
    def gated(cls, gate: Tensor, value: Tensor, activation: int, p: float) -> Source:
        """dropout(activation(gate) * value) of (…, in) each."""
        return cls((gate, value), Gate(activation, p, drawn_seed(p) if is_native(gate) else 0))

    def compute(self) -> Tensor:
        """The input itself."""
        return self.preparation.compute(*self.tensors)


def products(source: Source, layers: Sequence[Linear]) -> list[Tensor]:
    """The outputs of several layers on one input: (…, out) each."""
    first = source.tensors[0]
    flat = [tensor for layer in layers for tensor in (layer.weight, layer.bias, layer.a, layer.b)]
    if is_native(first) and all(t is None or t.dtype == first.dtype for t in (*source.tensors, *flat)):
        ps = [layer.p for layer in layers]
        return list(_Products.apply(source.preparation, len(source.tensors), ps, *source.tensors, *flat))
    x = source.compute()
    return [_apply(layer, x) for layer in layers]


def _apply(layer: Linear, x: Tensor) -> Tensor:
    y = functional.linear(x, layer.weight, layer.bias)
    if layer.a is None or layer.b is None:
        return y
    return y + functional.linear(functional.linear(dropout(x, layer.p), layer.a), layer.b)


class _Products(Function):
    @staticmethod
    def forward(
        ctx: Any, preparation: Preparation, count: int, ps: list[float], *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        given = tensors[:count]
        shape = given[0].shape  # type: ignore[union-attr]
        flat = [_flat(tensor) for tensor in given]
        weights = tensors[count:]
        x = preparation.native(*flat)
        seeds = [drawn_seed(p) for p in ps]
        outputs, inners = [], []
        for n, (p, seed) in enumerate(zip(ps, seeds, strict=True)):
            weight, bias, a, b = weights[4 * n : 4 * n + 4]
            y = x @ weight.T if bias is None else torch.addmm(bias, x, weight.T)  # type: ignore[union-attr]
            inner = None
            if a is not None and b is not None:
                inner = _dropped(x, p, seed) @ a.T
                y.addmm_(inner, b.T)
            outputs.append(y.view(*shape[:-1], y.shape[-1]))
            inners.append(inner)
        ctx.save_for_backward(*flat, *weights, *inners)
        ctx.preparation, ctx.ps, ctx.seeds, ctx.given = preparation, ps, seeds, count
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        saved, count = ctx.saved_tensors, len(ctx.ps)
        inputs, weights = saved[: ctx.given], saved[ctx.given : ctx.given + 4 * count]
        inners, needed = saved[ctx.given + 4 * count :], ctx.needs_input_grad[3:]
        x = ctx.preparation.native(*inputs)
        through = any(needed[: ctx.given])
        dx: Tensor | None = None
        found: list[Tensor | None] = []
        for n, (p, seed) in enumerate(zip(ctx.ps, ctx.seeds, strict=True)):
            weight, _, a, b = weights[4 * n : 4 * n + 4]
            wanted = needed[ctx.given + 4 * n : ctx.given + 4 * n + 4]
            dy = _flat(gradients[n])
            found += [dy.T @ x if wanted[0] else None, summed_over_rows(dy) if wanted[1] else None]
            if through:
                dx = dy @ weight if dx is None else dx.addmm_(dy, weight)
            if a is None:
                found += [None, None]
                continue
            dinner = dy @ b
            found += [dinner.T @ _dropped(x, p, seed), dy.T @ inners[n]]
            if through:
                assert dx is not None
                if p == 0:
                    dx.addmm_(dinner, a)
                else:
                    call("add_dropout", dx, dx.numel(), dx, dinner @ a, p, seed, dx)
        if dx is None:
            return None, None, None, *([None] * ctx.given), *found
        shape = gradients[0].shape[:-1]
        back = ctx.preparation.gradients(dx, needed[: ctx.given], *inputs)
        # A norm's weight, of one dimension, has its shape already.
        return None, None, None, *(t if t is None or t.dim() < 2 else t.view(*shape, t.shape[-1]) for t in back), *found


def _flat(x: Any) -> Tensor:
    """(…, width) → (rows, width), contiguous; a weight of one dimension stays as it is."""
    return x if x.dim() < 2 else x.reshape(rows_of(x)).contiguous()


def _dropped(x: Tensor, p: float, seed: int) -> Tensor:
    if p == 0:
        return x
    y = torch.empty_like(x)
    call("add_dropout", x, x.numel(), None, x, p, seed, y)
    return y
