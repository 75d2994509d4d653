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

from tuneoff.model.fast.native import call, native


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
def attention_shares(scores: Tensor, bias: Tensor | None, lengths: Tensor) -> Tensor:
    """softmax(scores + bias) over the first `lengths` keys, without gradient; the scores are overwritten.

    Scores (B, H, Sq, Sk), bias (H, Sq, Sk) in fp32 or None, lengths (B).
    """
    if _native(scores):
        scores = scores.contiguous()
        call("attention_probabilities", scores, *scores.shape, scores, bias, lengths, False, 0.0, 0, None)
        return scores
    return _shares(scores, bias, lengths, causal=False).to(scores.dtype)


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
