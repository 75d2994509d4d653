"""T5's operations between matrix products: each one C++ call on the CPU where it is built, plain torch elsewhere.

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


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMS norm, x / rms(x) * weight over the last dimension (Zhang and Sennrich 2019, equation 4)."""
    if _native(x):
        return _RmsNorm.apply(x.contiguous(), weight, eps)
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


def gated_gelu(h: Tensor, p: float) -> Tensor:
    """dropout(gelu(h[..., :F]) * h[..., F:]) of (..., 2F), with GELU's tanh form (Shazeer 2020)."""
    if _native(h):
        return _GatedGelu.apply(h.contiguous(), p, _seed(p))
    gate, value = h.float().chunk(2, dim=-1)
    return functional.dropout(functional.gelu(gate, approximate="tanh") * value, p).to(h.dtype)


def dropout(x: Tensor, p: float) -> Tensor:
    """Inverted dropout."""
    if p == 0 or not _native(x):
        return functional.dropout(x, p)
    return _AddDropout.apply(None, x.contiguous(), p, _seed(p))


def add_dropout(residual: Tensor, x: Tensor, p: float) -> Tensor:
    """Dropout of x, added to the residual."""
    if p == 0 or not _native(x):
        return residual + functional.dropout(x, p)
    return _AddDropout.apply(residual.contiguous(), x.contiguous(), p, _seed(p))


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, lengths: Tensor, causal: bool, p: float) -> Tensor:
    """dropout(softmax(q kᵀ + bias)) v, unscaled as in T5 (Raffel et al. 2020, section 2.1).

    q (B, H, Sq, K), k and v (B, H, Sk, K), bias (H, Sq, Sk) in fp32 or None, lengths (B): the keys that are there.
    """
    if _native(q):
        return _Attention.apply(q.contiguous(), k.contiguous(), v.contiguous(), bias, lengths, causal, p, _seed(p))
    return functional.dropout(_shares(q @ k.transpose(-1, -2), bias, lengths, causal), p).to(v.dtype) @ v


@torch.no_grad()
def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, lengths: Tensor) -> Tensor:
    """softmax(q kᵀ + bias) v of one query a head over the first `lengths` keys, without gradient: (B, 1, H·K).

    q (B, 1, H·K), k and v (B, H, T, K) laid out alike, with the rows of a head one after another; bias (H, at least T)
    in fp32 or None; lengths (B).
    """
    if _native(q) and k.stride() == v.stride() and k.stride(2) == k.shape[3] and k.stride(3) == 1:
        heads, width = k.shape[1], k.shape[3]
        q, y = q.contiguous(), torch.empty_like(q)
        biases = 0 if bias is None else bias.stride(0)
        sizes = (len(q), heads, width, k.stride(0), k.stride(1))
        call("attend", q, *sizes, q, k, v, bias, biases, lengths, y)
        return y
    rows = q.view(len(q), k.shape[1], 1, k.shape[3])
    bias = None if bias is None else bias[:, None, : k.shape[2]]
    shares = _shares(rows @ k.transpose(-1, -2), bias, lengths, causal=False).to(v.dtype)
    return (shares @ v).flatten(1)[:, None]


def summed_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, summed, of logits (N, V) and targets (N). The logits are overwritten."""
    if _native(logits):
        return _CrossEntropy.apply(logits.contiguous(), targets)
    return functional.cross_entropy(logits.float(), targets, reduction="sum")


def _shares(scores: Tensor, bias: Tensor | None, lengths: Tensor, causal: bool) -> Tensor:
    """The probabilities in fp32, by torch alone."""
    queries, keys = scores.shape[2:]
    there = torch.arange(keys, device=scores.device) < lengths[:, None, None, None]
    if causal:
        there = there & torch.ones(queries, keys, dtype=torch.bool, device=scores.device).tril()
    wide = scores.float() if bias is None else scores.float() + bias
    return wide.masked_fill(~there, float("-inf")).softmax(-1)


def _native(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and native() is not None


def _seed(p: float) -> int:
    return int(torch.randint(2**31, ()).item()) if p > 0 else 0


def _rows(x: Tensor) -> tuple[int, int]:
    return x.numel() // x.shape[-1], x.shape[-1]


class _RmsNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        y, inverse = torch.empty_like(x), x.new_empty(_rows(x)[0], dtype=torch.float32)
        call("rms_norm", x, *_rows(x), x, weight, eps, y, inverse)
        ctx.save_for_backward(x, weight, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, weight, inverse = ctx.saved_tensors
        dx, sums = torch.empty_like(x), None
        if ctx.needs_input_grad[1]:
            sums = x.new_zeros(torch.get_num_threads(), x.shape[-1], dtype=torch.float32)
        call("rms_norm_backward", x, *_rows(x), dy.contiguous(), x, weight, inverse, dx, sums)
        return dx, None if sums is None else sums.sum(0).to(weight.dtype), None


class _GatedGelu(Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, p: float, seed: int) -> Tensor:
        y = h.new_empty(*h.shape[:-1], h.shape[-1] // 2)
        call("gated_gelu", h, *_rows(y), h, p, seed, y)
        ctx.save_for_backward(h)
        ctx.drawn = p, seed
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (h,) = ctx.saved_tensors
        dh, dy = torch.empty_like(h), dy.contiguous()
        call("gated_gelu_backward", h, *_rows(dy), dy, h, *ctx.drawn, dh)
        return dh, None, None


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


class LowRank(Function):
    """n Wᵀ + dropout(n) Aᵀ Bᵀ of n = rms_norm(x), with W and the norm frozen: x (..., in), W (out, in), A (R, in),
    B (out, R), where A holds several adapters of `ranks` that sum to R, each with a dropout of its own. `norm` is the
    norm's weight, or None where x is taken as it is. Of all that, x alone is kept for the backward pass: n and the
    dropped inputs are computed again.
    """

    @staticmethod
    def suits(x: Tensor, *frozen: Tensor | None) -> bool:
        return _native(x) and not any(weight is not None and weight.requires_grad for weight in frozen)

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        norm: Tensor | None,
        eps: float,
        weight: Tensor,
        a: Tensor,
        b: Tensor,
        ranks: list[int],
        p: float,
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        ctx.drawn, ctx.eps = [(rank, p, _seed(p)) for rank in ranks], eps
        normed, inverse = _normed(rows, norm, eps)
        parts = zip(a.split(ranks), ctx.drawn, strict=True)
        inner = torch.cat([_dropped(normed, *drawn) @ part.T for part, (_, *drawn) in parts], 1)
        ctx.save_for_backward(rows, norm, inverse, weight, a, b, inner)
        return torch.addmm(normed @ weight.T, inner, b.T).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, norm, inverse, weight, a, b, inner = ctx.saved_tensors
        shape, dy = dy.shape, dy.reshape(-1, dy.shape[-1])
        normed, _ = _normed(x, norm, ctx.eps)
        dinner, db = dy @ b, dy.T @ inner
        dx = dy @ weight if ctx.needs_input_grad[0] else None
        da, done = torch.empty_like(a), 0
        for rank, p, seed in ctx.drawn:
            part, by = slice(done, done + rank), dinner[:, done : done + rank]
            torch.mm(by.T, _dropped(normed, p, seed), out=da[part])
            if dx is not None:
                through = by @ a[part]
                call("add_dropout", dx, dx.numel(), dx, through, p, seed, dx)
            done += rank
        if dx is not None:
            if norm is not None:
                call("rms_norm_backward", dx, *_rows(dx), dx, x, norm, inverse, dx, None)
            dx = dx.view(*shape[:-1], -1)
        return dx, None, None, None, da, db, None, None


def _normed(x: Tensor, weight: Tensor | None, eps: float) -> tuple[Tensor, Tensor | None]:
    """The RMS norm, and the inverse of the rms; or x."""
    if weight is None:
        return x, None
    y, inverse = torch.empty_like(x), x.new_empty(len(x), dtype=torch.float32)
    call("rms_norm", x, *_rows(x), x, weight, eps, y, inverse)
    return y, inverse


def _dropped(x: Tensor, p: float, seed: int) -> Tensor:
    if p == 0:
        return x
    y = torch.empty_like(x)
    call("add_dropout", x, x.numel(), None, x, p, seed, y)
    return y


class _CrossEntropy(Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> Tensor:
        losses = logits.new_empty(logits.shape[0], dtype=torch.float32)
        call("cross_entropy", logits, *logits.shape, logits, targets, losses)
        ctx.gradient = logits  # they are now their own gradient
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, dloss: Tensor) -> Any:
        return ctx.gradient.mul_(dloss), None
