"""A transformer's operations between matrix products: each one C++ call on the CPU where it is built, else torch's own.

Shapes: B examples, S source or target tokens, D model width, F feed-forward width, H heads, K head width.
All of them compute in fp32 and round once, so they differ from the plain path by its own roundings.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

from tuneoff.model.kernels.native import call, native

GELU, SILU = 0, 1  # activations, as the kernels number them; GELU in its tanh form


def rms_norm(x: Tensor, weight: Tensor, eps: float, offset: float = 0.0) -> Tensor:
    """RMS norm, x / rms(x) * (weight + offset) over the last dimension (Zhang and Sennrich 2019, equation 4)."""
    if is_native(x) and weight.dtype == x.dtype:
        return _RmsNorm.apply(x.contiguous(), weight, eps, offset)
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * (weight.float() + offset)).to(x.dtype)


def gated(gate: Tensor, value: Tensor, activation: int, p: float = 0.0) -> Tensor:
    """dropout(activation(gate) * value) of (…, F) each (Shazeer 2020), with the activation GELU (tanh form) or SILU."""
    if is_native(gate):
        return _Gated.apply(gate, value, activation, p, drawn_seed(p))
    wide = gate.float()
    active = functional.silu(wide) if activation == SILU else functional.gelu(wide, approximate="tanh")
    return functional.dropout(active * value.float(), p).to(gate.dtype)


def dropout(x: Tensor, p: float) -> Tensor:
    """Inverted dropout."""
    if p == 0 or not is_native(x):
        return functional.dropout(x, p)
    return _AddDropout.apply(None, x.contiguous(), p, drawn_seed(p))


def add_dropout(residual: Tensor, x: Tensor, p: float) -> Tensor:
    """Dropout of x, added to the residual."""
    if p == 0 or not is_native(x):
        return residual + functional.dropout(x, p)
    return _AddDropout.apply(residual.contiguous(), x.contiguous(), p, drawn_seed(p))


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, lengths: Tensor, causal: bool, p: float) -> Tensor:
    """dropout(softmax(q kᵀ + bias)) v, unscaled as in T5 (Raffel et al. 2020, section 2.1).

    q (B, H, Sq, K), k and v (B, H, Sk, K), bias (H, Sq, Sk) in fp32 or None, lengths (B): the keys that are there.
    """
    if is_native(q):
        return _Attention.apply(q.contiguous(), k.contiguous(), v.contiguous(), bias, lengths, causal, p, drawn_seed(p))
    scores = q @ k.transpose(-1, -2)
    there = torch.arange(k.shape[2], device=k.device) < lengths[:, None, None, None]
    if causal:
        there = there & torch.ones(scores.shape[2:], dtype=torch.bool, device=k.device).tril()
    return functional.dropout(_shares(scores, bias, there), p).to(v.dtype) @ v


@torch.no_grad()
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    *,
    bias: Tensor | None = None,
    slots: Tensor | None = None,
    window: int = 0,
    cap: float = 0.0,
) -> Tensor:
    """softmax(cap(q kᵀ) + bias) v of one query a head over the first `lengths` keys, without gradient: (B, 1, H·K).

    q (B, 1, H·K); k and v (places, H or a divisor of it, T, K), laid out alike, with the rows of a head one after
    another; lengths (B); bias (H, at least T) in fp32. `slots` (B) are the places of the texts. Without them the texts
    share the places evenly, in order: as many as there are places, or several to each. Of the keys the last `window`
    count (0: all). cap(s) is cap · tanh(s / cap), or s where `cap` is 0.
    """
    heads, width = k.shape[1], k.shape[3]
    shared = q.shape[-1] // width // heads
    in_rows = k.stride() == v.stride() and k.stride(2) == width and k.stride(3) == 1
    if is_native(q) and in_rows and (slots is not None or len(q) == len(k)):
        q, y = q.contiguous(), torch.empty_like(q)
        biases = 0 if bias is None else bias.stride(0)
        sizes = (len(q), heads * shared, shared, width, k.stride(0), k.stride(1))
        call("attend", q, *sizes, q, k, v, bias, biases, slots, lengths, window, cap, y)
        return y
    if slots is not None:
        k, v = k[slots], v[slots]
    # All queries that see the same keys in one product, (places, heads, queries, width), and no copies of the keys.
    each, places = len(q) // len(k), len(k)
    rows = q.view(places, each, heads, shared, width).transpose(1, 2).reshape(places, heads, each * shared, width)
    scores = rows @ k.transpose(-1, -2)
    scores = scores if cap == 0 else torch.tanh(scores.float() / cap) * cap
    ends = lengths.view(places, 1, each, 1).expand(-1, -1, -1, shared).reshape(places, 1, each * shared, 1)
    at = torch.arange(k.shape[2], device=k.device)
    there = at < ends
    if window:
        there = there & (at >= ends - window)
    if bias is not None:
        bias = bias[:, : k.shape[2]].view(heads, 1, shared, -1).expand(-1, each, -1, -1).flatten(1, 2)
    y = _shares(scores, bias, there).to(v.dtype) @ v
    return y.view(places, heads, each, shared * width).transpose(1, 2).reshape(len(q), 1, -1)


def rotate(x: Tensor, angles: tuple[Tensor, Tensor] | None, positions: Tensor, places: Tensor, count: int) -> Tensor:
    """The heads of x (N, H, K), whose tokens follow each other, turned (Su et al. 2021) and moved to (count, H, K).

    Token n goes to `places[n]`; what no token goes to is 0. `angles` are cosines and sines (positions, R) in fp32: of
    a head the first R numbers are turned, in pairs R / 2 apart, by the angles at `positions[n]`; None turns nothing.
    """
    if is_native(x):
        cosines, sines = (None, None) if angles is None else angles
        return _Rotate.apply(x.contiguous(), cosines, sines, positions, places, count)
    if angles is not None:
        cosines, sines = (table[positions][:, None] for table in angles)
        turned, kept = x[..., : cosines.shape[-1]].float(), x[..., cosines.shape[-1] :]
        first, second = turned.chunk(2, dim=-1)
        turned = turned * cosines + torch.cat([-second, first], -1) * sines
        x = torch.cat([turned.to(x.dtype), kept], -1)
    return x.new_zeros(count, *x.shape[1:]).index_copy(0, places, x)


def _shares(scores: Tensor, bias: Tensor | None, there: Tensor) -> Tensor:
    """The probabilities of the keys that are `there` in fp32, by PyTorch alone."""
    wide = scores.float() if bias is None else scores.float() + bias
    return wide.masked_fill(~there, float("-inf")).softmax(-1)


def is_native(x: Tensor) -> bool:
    """Whether the C++ kernels take `x`."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and native() is not None


def drawn_seed(p: float) -> int:
    """A seed for dropout with probability `p`, by torch's random state; 0 where nothing is dropped."""
    return int(torch.randint(2**31, ()).item()) if p > 0 else 0


def rows_of(x: Tensor) -> tuple[int, int]:
    """How many rows `x` has, and their width."""
    return x.numel() // x.shape[-1], x.shape[-1]


def summed_over_rows(x: Tensor) -> Tensor:
    """(rows, width) → (width), summed in fp32."""
    return x.sum(0, dtype=torch.float32).to(x.dtype)


def _alike(gate: Tensor, value: Tensor) -> tuple[Tensor, Tensor, int]:
    """Both with rows that lie equally far apart, as the halves of one tensor do; and how far, in elements."""
    if gate.dim() >= 2 and gate.stride() == value.stride() and gate.stride(-1) == 1:
        outer = [gate.stride(n) == gate.stride(n + 1) * gate.shape[n + 1] for n in range(gate.dim() - 2)]
        if all(outer):
            return gate, value, gate.stride(-2)
    return gate.contiguous(), value.contiguous(), gate.shape[-1]


class _RmsNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
        y, inverse = torch.empty_like(x), x.new_empty(rows_of(x)[0], dtype=torch.float32)
        call("rms_norm", x, *rows_of(x), x, weight, offset, eps, y, inverse)
        ctx.save_for_backward(x, weight, inverse)
        ctx.offset = offset
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, weight, inverse = ctx.saved_tensors
        dx, sums = torch.empty_like(x), None
        if ctx.needs_input_grad[1]:
            sums = x.new_zeros(torch.get_num_threads(), x.shape[-1], dtype=torch.float32)
        call("rms_norm_backward", x, *rows_of(x), dy.contiguous(), x, weight, ctx.offset, inverse, dx, sums)
        return dx, None if sums is None else sums.sum(0).to(weight.dtype), None, None


class _Gated(Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, value: Tensor, activation: int, p: float, seed: int) -> Tensor:
        gate, value, stride = _alike(gate, value)
        y = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
        call("gated", y, *rows_of(y), stride, gate, value, activation, p, seed, y)
        ctx.save_for_backward(gate, value)
        ctx.settings = activation, p, seed
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        gate, value = (t.contiguous() for t in ctx.saved_tensors)
        dgate, dvalue = torch.empty_like(gate), torch.empty_like(value)
        sizes = (*rows_of(gate), gate.shape[-1])
        call("gated_backward", gate, *sizes, dy.contiguous(), gate, value, *ctx.settings, dgate, dvalue)
        return dgate, dvalue, None, None, None


class _Rotate(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        cosines: Tensor | None,
        sines: Tensor | None,
        positions: Tensor,
        places: Tensor,
        count: int,
    ) -> Tensor:
        y = x.new_zeros(count, *x.shape[1:]) if count != len(x) else torch.empty_like(x)
        ctx.rotary = 0 if cosines is None else cosines.shape[-1]
        ctx.save_for_backward(cosines, sines, positions, places)
        call("rotate", x, *x.shape, ctx.rotary, x, cosines, sines, positions, places, False, y)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        cosines, sines, positions, places = ctx.saved_tensors
        dx = dy.new_empty(len(positions), *dy.shape[1:])
        call("rotate", dx, *dx.shape, ctx.rotary, dy.contiguous(), cosines, sines, positions, places, True, dx)
        return dx, None, None, None, None, None


class _AddDropout(Function):
    @staticmethod
    def forward(ctx: Any, residual: Tensor | None, x: Tensor, p: float, seed: int) -> Tensor:
        y = torch.empty_like(x)
        call("add_dropout", x, x.numel(), residual, x, p, seed, y)
        ctx.drawn = p, seed
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        dy = dy.contiguous()
        dx = torch.empty_like(dy)
        call("add_dropout", dy, dy.numel(), None, dy, *ctx.drawn, dx)
        return dy if ctx.needs_input_grad[0] else None, dx, None, None


class _Attention(Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        bias: Tensor | None,
        lengths: Tensor,
        causal: bool,
        p: float,
        seed: int,
    ) -> Tensor:
        shares = q @ k.transpose(-1, -2)
        dropped = torch.empty_like(shares) if p > 0 else shares
        call("attention_probabilities", q, *shares.shape, shares, bias, lengths, causal, p, seed, dropped)
        ctx.save_for_backward(q, k, v, shares)
        ctx.p = p
        return dropped @ v

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        q, k, v, shares = ctx.saved_tensors
        scores = dy @ v.transpose(-1, -2)
        dbias = shares.new_zeros(shares.shape[1:], dtype=torch.float32) if ctx.needs_input_grad[3] else None
        dropped = torch.empty_like(shares) if ctx.p > 0 else None
        call("attention_probabilities_backward", q, *shares.shape, scores, shares, ctx.p, dbias, dropped)
        dv = (shares if dropped is None else dropped).transpose(-1, -2) @ dy
        return scores @ k, scores.transpose(-1, -2) @ q, dv, dbias, None, None, None, None
