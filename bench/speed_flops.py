"""The floating-point operations that the model asks for on real tokens: what padding and overhead are held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneoff.model.base import load_config

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class ModelWork:
    """A forward pass over some examples, in FLOPs, and their source and target tokens."""

    forward: float
    tokens: int

    def flops(self, frozen: bool) -> float:
        """Training: the gradient of the weights costs as much again as the forward pass, that of the inputs too.

        A frozen base has no gradient of its weights (LoRA's own products are left out).
        """
        return self.forward * (2 if frozen else 3)


def model_flops(model: str, examples: Dataset) -> ModelWork:
    """Products alone, two FLOPs a multiplication and addition; a gated feed-forward of three matrices."""
    config = load_config(model, None)
    if not config.is_encoder_decoder:
        return _decoder_flops(config, examples)
    inner, d = config.num_heads * config.d_kv, config.d_model
    attention, feed_forward = 4 * d * inner, 3 * d * config.d_ff
    encoder = config.num_layers * (attention + feed_forward)
    crossing = config.num_decoder_layers * 2 * d * inner  # keys and values, of source tokens
    decoder = config.num_decoder_layers * (attention + 2 * d * inner + feed_forward) + d * config.vocab_size
    total, tokens = 0.0, 0
    for row in examples:
        s, t = len(row["input_ids"]), len(row["labels"])
        pairs = config.num_layers * s * s + config.num_decoder_layers * (t * t / 2 + t * s)
        total += 2 * (s * (encoder + crossing) + t * decoder + 2 * pairs * inner)
        tokens += s + t
    return ModelWork(total, tokens)


def _decoder_flops(config: Any, examples: Dataset) -> ModelWork:
    """Of a decoder-only model of Llama's kind, whose output layer is asked where there is a target alone."""
    d, width = config.hidden_size, config.hidden_size // config.num_attention_heads
    inner, keys = config.num_attention_heads * width, config.num_key_value_heads * width
    layer = 2 * d * inner + 2 * d * keys + 3 * d * config.intermediate_size
    total, tokens = 0.0, 0
    for row in examples:
        s, t = len(row["input_ids"]), sum(label >= 0 for label in row["labels"])
        total += 2 * (config.num_hidden_layers * (s * layer + s * s * inner) + t * d * config.vocab_size)
        tokens += s
    return ModelWork(total, tokens)
