"""The layers of a decoder-only model, read from the modules that are there, and what one of them computes.

Shapes: N tokens, which lie one after another without padding, D model width, H heads, G heads of keys and values (a
divisor of H), K head width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tuneoff.model.engines.projections import apply_norm, project, project_gated
from tuneoff.model.kernels.operations import GELU, SILU, rotate

# Families whose config has a sliding window for every layer, and those where it says of each layer whether it has one.
WINDOW_EVERYWHERE, WINDOW_BY_LAYER = {"Mistral", "Phi3"}, {"Qwen2", "Qwen3", "SmolLM3", "Gemma2", "Gemma3"}
ACTIVATIONS = {"silu": SILU, "gelu_pytorch_tanh": GELU, "gelu_new": GELU}


@dataclass(frozen=True)
class Packing:
    """Where the tokens of a batch are: token n of the packed order has `positions[n]` in its text, counted from 0, and
    `places[n]` in the batch as padded rows, of which there are `rows` of `width` tokens.

    `angles` are the cosines and sines of rotary embedding by kind of layer, (positions, R) each.
    """

    positions: Tensor
    places: Tensor
    rows: int
    width: int
    angles: dict[str | None, tuple[Tensor, Tensor]]


class Layer:
    """One layer of a decoder.

    Attributes:
        heads: H.
        shared: The heads of queries that share a head of keys and values.
        width: K.
        scaling: What queries are multiplied by.
        window: How many of the last keys attention sees; 0 for all.
        activation: What gates are bent by, as the kernels number it; None where they do not have it.
        cap: What bends attention's scores, as cap · tanh(score / cap); 0 for nothing.
    """

    def __init__(self, block: Any, number: int) -> None:
        self._attention, self._mlp = block.self_attn, block.mlp
        own, config = self._attention, self._attention.config
        self.width, self.scaling = int(own.head_dim), float(own.scaling)
        self.shared = int(own.num_key_value_groups)
        self.heads = int(config.num_attention_heads)
        family = type(block).__name__.removesuffix("DecoderLayer")
        by_layer = family in WINDOW_BY_LAYER and config.layer_types[number] == "sliding_attention"
        self.window = int(config.sliding_window or 0) if family in WINDOW_EVERYWHERE or by_layer else 0
        # Gemma 3 has the setting, too, and does not use it.
        self.cap = float(getattr(own, "attn_logit_softcapping", None) or 0.0) if family == "Gemma2" else 0.0
        self._rotates = bool(getattr(own, "use_rope", True))
        self.kind: str | None = getattr(own, "layer_type", None) if family == "Gemma3" else None
        self._dropout = float(own.attention_dropout)
        self._residual = float(getattr(block, "residual_multiplier", 1.0))
        self._joined = hasattr(own, "qkv_proj")
        self.activation = ACTIVATIONS.get(_activation(config, family))
        # A norm before attention and before the gates (Llama), one after each, too (Gemma 2), or only after (OLMo 2).
        self._before, self._after = getattr(block, "input_layernorm", None), None
        self._before_mlp, self._after_mlp = block.post_attention_layernorm, None
        if hasattr(block, "post_feedforward_layernorm"):
            self._after, self._after_mlp = block.post_attention_layernorm, block.post_feedforward_layernorm
            self._before_mlp = getattr(block, "pre_feedforward_layernorm", None)
        self._head_norms = getattr(own, "q_norm", None), getattr(own, "k_norm", None)
        self._heads_apart = family != "Olmo2"  # which norms all heads at once

    def __call__(self, x: Tensor, packing: Packing) -> Tensor:
        """The layer's output for the tokens of a batch, x (N, D)."""
        q, k, v = self.keys(x, packing)
        return self.feed_forward(self.attended(x, self.attend(q, k, v, packing)))

    def keys(self, x: Tensor, packing: Packing) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (N', H, K), keys and values (N', G, K) at their places, of which there are N' = rows · width."""
        q, k, v = self._projected(x)
        angles = packing.angles[self.kind] if self._rotates else None
        where = (packing.positions, packing.places, packing.rows * packing.width)
        return rotate(q, angles, *where), rotate(k, angles, *where), rotate(v, None, *where)

    def attended(self, x: Tensor, y: Tensor) -> Tensor:
        """What attention's output y (N, H·K) makes of x (N, D)."""
        (out,) = project(y, [self._attention.o_proj])
        return self._added(x, out, self._after)

    def feed_forward(self, x: Tensor) -> Tensor:
        """What the gates make of x (N, D)."""
        mlp = self._mlp
        if self._joined:
            (both,) = project(x, [mlp.gate_up_proj], self._before_mlp)
            gate, value = (part.contiguous() for part in both.chunk(2, dim=-1))
        else:
            gate, value = project(x, [mlp.gate_proj, mlp.up_proj], self._before_mlp)
        assert self.activation is not None
        (out,) = project_gated(gate, value, [mlp.down_proj], self.activation)
        return self._added(x, out, self._after_mlp)

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (N, H, K), keys and values (N, G, K), normed where the model does that."""
        own = self._attention
        if self._joined:
            (both,) = project(x, [own.qkv_proj], self._before)
            groups = self.heads // self.shared
            q, k, v = both.split([width * self.width for width in (self.heads, groups, groups)], dim=-1)
        else:
            q, k, v = project(x, [own.q_proj, own.k_proj, own.v_proj], self._before)
        q, k = (self._normed(norm, y) for norm, y in zip(self._head_norms, (q, k), strict=True))
        return self._split(q), self._split(k), self._split(v)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, packing: Packing) -> Tensor:
        """Causal attention of every row by itself: (N, H·K). Padding lies at the end, where no token looks."""
        q, k, v = (t.view(packing.rows, packing.width, *t.shape[1:]).transpose(1, 2) for t in (q, k, v))
        p = self._dropout if self._attention.training else 0.0
        if self.cap:
            mask = self._mask(packing.width, q.device)
            k, v = (t.repeat_interleave(self.shared, 1) for t in (k, v))
            scores = torch.tanh((q @ k.transpose(-1, -2)).float() * (self.scaling / self.cap)) * self.cap
            shares = scores.masked_fill(~mask, float("-inf")).softmax(-1).to(v.dtype)
            y = functional.dropout(shares, p) @ v
        else:
            whole = self.window == 0 or packing.width <= self.window
            settings: dict[str, Any] = {"is_causal": True}
            if not whole:
                settings = {"attn_mask": self._mask(packing.width, q.device)}
            y = functional.scaled_dot_product_attention(
                q, k, v, dropout_p=p, scale=self.scaling, enable_gqa=self.shared > 1, **settings
            )
        y = y.transpose(1, 2).reshape(packing.rows * packing.width, -1)
        return y if len(y) == len(packing.places) else y.index_select(0, packing.places)

    def _mask(self, width: int, device: torch.device) -> Tensor:
        """Which keys a query sees: (width, width)."""
        past = torch.ones(width, width, dtype=torch.bool, device=device).tril()
        return past.triu(1 - self.window) if self.window else past

    def _added(self, x: Tensor, y: Tensor, norm: Any) -> Tensor:
        y = y if norm is None else apply_norm(norm, y)
        return x + y if self._residual == 1 else x + y * self._residual

    def _normed(self, norm: Any, x: Tensor) -> Tensor:
        """The norm of x (N, n·K), of each head or of all at once."""
        if norm is None:
            return x
        return apply_norm(norm, self._split(x)).flatten(-2) if self._heads_apart else apply_norm(norm, x)

    def _split(self, x: Tensor) -> Tensor:
        """(N, n·K) → (N, n, K)"""
        return x.unflatten(-1, (-1, self.width))


def parts_of(block: Any) -> Iterator[tuple[str, Any]]:
    """The modules of a block that are computed here without being called."""
    yield "a layer", block
    yield "an attention", block.self_attn
    yield "a feed-forward layer", block.mlp


def linear_layers(block: Any) -> list[nn.Module]:
    """The linear layers of a block."""
    return [
        module
        for part in (block.self_attn, block.mlp)
        for name, module in part.named_children()
        if name.endswith("_proj")
    ]


def activation_of(model: Any) -> str:
    """The name of a model's activation."""
    return _activation(model.config, type(model).__name__.removesuffix("ForCausalLM"))


def _activation(config: Any, family: str) -> str:
    return str(config.hidden_activation if family in ("Gemma2", "Gemma3") else config.hidden_act)
