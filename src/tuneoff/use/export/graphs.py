"""A model → the modules that become ONNX graphs, each with example inputs and the names of what goes in and out.

The names are those of optimum's exports. Shapes: B batch, S source, T target, P target so far, H heads, K their width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch  # noqa: TID253  modules are classes of its own
from torch import Tensor, nn  # noqa: TID253

from tuneoff.model.base import ModelClass

BATCH, SOURCE, TARGET, PAST = (
    "batch_size", "encoder_sequence_length", "decoder_sequence_length", "past_decoder_sequence_length",
)  # fmt: skip
B, S, T = 2, 7, 3  # of the examples: none is 1, which torch.export would take for a constant


@dataclass(frozen=True)
class Graph:
    """One file to be. `shapes` names the dynamic axes of `inputs`, as torch.export takes them."""

    name: str
    module: nn.Module
    inputs: tuple[Any, ...]
    input_names: list[str]
    output_names: list[str]
    shapes: tuple[Any, ...]


def graphs(model: Any, kind: ModelClass) -> Iterator[Graph]:
    """The graphs of `model`: decoder-only it is one; else the encoder, the decoder's first step, and its later ones."""
    ids = torch.ones(B, S, dtype=torch.long)
    if kind == "causal":
        shape = {0: BATCH, 1: "sequence_length"}
        names = ["input_ids", "attention_mask", "position_ids"]
        places = torch.arange(S).expand(B, S)
        yield Graph("model", _Whole(model), (ids, torch.ones_like(ids), places), names, ["logits"], (shape,) * 3)
        return
    source = {0: BATCH, 1: SOURCE}
    names = ["input_ids", "attention_mask"]
    example = (ids, torch.ones_like(ids))
    yield Graph("encoder_model", _Encoder(model), example, names, ["last_hidden_state"], (source, source))
    yield from _decoders(model)


def _decoders(model: Any) -> Iterator[Graph]:
    first = _First(model)
    mask, ids = torch.ones(B, S, dtype=torch.long), torch.ones(B, T, dtype=torch.long)
    encoded = torch.zeros(B, S, model.config.hidden_size)
    with torch.no_grad():
        past = list(first(mask, ids, encoded)[1:])
    layers = len(past) // 4
    own = [f"{i}.decoder.{part}" for i in range(layers) for part in ("key", "value")]
    crossing = [f"{i}.encoder.{part}" for i in range(layers) for part in ("key", "value")]
    source = {0: BATCH, 1: SOURCE}
    yield Graph(
        "decoder_model",
        first,
        (mask, ids, encoded),
        ["encoder_attention_mask", "input_ids", "encoder_hidden_states"],
        ["logits", *(f"present.{name}" for name in own + crossing)],
        (source, {0: BATCH, 1: TARGET}, source),
    )
    yield Graph(
        "decoder_with_past_model",
        _Later(model),
        (mask, ids[:, :1], past),
        ["encoder_attention_mask", "input_ids", *(f"past_key_values.{name}" for name in own + crossing)],
        ["logits", *(f"present.{name}" for name in own)],
        (source, {0: BATCH}, [{0: BATCH, 2: PAST}] * len(own) + [{0: BATCH, 2: SOURCE}] * len(crossing)),
    )


class _Module(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.eval()


class _Whole(_Module):
    def forward(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor) -> Tensor:
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=False
        ).logits


class _Encoder(_Module):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        encoder = self.model.get_encoder()
        return encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


class _First(_Module):
    """The decoder over a text's beginning (B, T): logits, then keys and values (B, H, T, K) and (B, H, S, K)."""

    def forward(
        self, encoder_attention_mask: Tensor, input_ids: Tensor, encoder_hidden_states: Tensor
    ) -> tuple[Tensor, ...]:
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        output = _decode(self.model, encoder_attention_mask, input_ids, encoder_hidden_states, cache)
        return (output.logits, *_flat(cache.self_attention_cache), *_flat(cache.cross_attention_cache))


class _Later(_Module):
    """The decoder for one more token (B, 1): logits, then keys and values (B, H, P + 1, K)."""

    def forward(self, encoder_attention_mask: Tensor, input_ids: Tensor, past: Sequence[Tensor]) -> tuple[Tensor, ...]:
        from transformers.cache_utils import DynamicCache, EncoderDecoderCache

        half = len(past) // 2
        own, crossing = (
            DynamicCache([(part[i], part[i + 1]) for i in range(0, half, 2)]) for part in (past[:half], past[half:])
        )
        # The encoder's output is in the keys and values already: only its shape is asked for.
        encoded = past[half].new_zeros(past[half].shape[0], past[half].shape[2], self.model.config.hidden_size)
        cache = EncoderDecoderCache(own, crossing)
        output = _decode(self.model, encoder_attention_mask, input_ids, encoded, cache)
        return (output.logits, *_flat(cache.self_attention_cache))


def _decode(model: Any, mask: Tensor, ids: Tensor, encoded: Tensor, cache: Any) -> Any:
    return model(
        encoder_outputs=(encoded,), attention_mask=mask, decoder_input_ids=ids, use_cache=True, past_key_values=cache
    )


def _flat(cache: Any) -> list[Tensor]:
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
