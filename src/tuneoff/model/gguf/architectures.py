"""Which models a GGUF file can be written of, and how llama.cpp lays out and names their weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneoff.errors import ModelError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Architecture:
    """`name` is llama.cpp's.

    `permutes` says whether the rows of the query and key projections are in llama.cpp's order: it rotates neighbours,
    where transformers rotates the two halves of a head. `head_dim` is the only size of a head that can be read back,
    None where any can.
    """

    name: str
    permutes: bool
    head_dim: int | None = None


# By transformers' `model_type`. These are the ones whose files are read back here with every weight in its place.
ARCHITECTURES = {
    "llama": Architecture("llama", permutes=True),
    "mistral": Architecture("llama", permutes=True),
    "qwen2": Architecture("qwen2", permutes=False),
    "qwen3": Architecture("qwen3", permutes=False, head_dim=128),
}


def architecture_of(config: Any) -> Architecture:
    """The architecture of a model with this config. Raises ModelError where a file could not say what it computes."""
    found = ARCHITECTURES.get(config.model_type)
    if found is None:
        raise ModelError(f"its architecture is {config.model_type}; a GGUF is written of {', '.join(ARCHITECTURES)}")
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    if kind != "default" or rope.get("partial_rotary_factor", 1) != 1:
        raise ModelError(f"its positions are scaled or rotated in part (rope_type {kind}), which is not written")
    window = getattr(config, "sliding_window", None)
    slides = getattr(config, "use_sliding_window", True) and window is not None
    if slides and window < config.max_position_embeddings:
        raise ModelError(f"its attention has a sliding window of {window} tokens, which is not written")
    if config.hidden_act != "silu":
        raise ModelError(f"its activation is {config.hidden_act}, where llama.cpp computes {found.name} with silu")
    if found.head_dim not in (None, head_dim(config)):
        raise ModelError(f"its heads have {head_dim(config)} dimensions; only {found.head_dim} can be read back")
    return found


def head_dim(config: Any) -> int:
    """The dimensions of one attention head."""
    own = getattr(config, "head_dim", None)
    return int(own if own is not None else config.hidden_size // config.num_attention_heads)


def named_weights(model: Any, architecture: Architecture) -> dict[str, torch.nn.Parameter]:
    """Every weight once, by llama.cpp's name. Weights that are shared (tied) have the name of the embedding.

    Raises ModelError where a weight has no name there, or where a file with it could not be read back.
    """
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    number = next(key for key, name in MODEL_ARCH_NAMES.items() if name == architecture.name)
    names = get_tensor_name_map(number, model.config.num_hidden_layers)
    found: dict[str, torch.nn.Parameter] = {}
    for name, weight in model.named_parameters():
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None or (architecture.name == "llama" and name.endswith(".bias")):
            raise ModelError(f"its weight {name} has no place in a GGUF of {architecture.name} that can be read back")
        found[known] = weight
    return found


def laid_out(name: str, weight: Any, config: Any, architecture: Architecture) -> Any:
    """A weight (a numpy array) with its rows in llama.cpp's order; `name` is llama.cpp's, too."""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(_layer_of(name))
    if heads is None or not architecture.permutes:
        return weight
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _layer_of(name: str) -> str:
    """`attn_q` of `blk.0.attn_q.weight`."""
    return name.split(".")[-2]


def metadata(config: Any) -> Iterator[tuple[str, int | float]]:
    """What the file says of the model's shape: the names of GGUFWriter's `add_…`, with their values."""
    yield "block_count", config.num_hidden_layers
    yield "context_length", config.max_position_embeddings
    yield "embedding_length", config.hidden_size
    yield "feed_forward_length", config.intermediate_size
    yield "head_count", config.num_attention_heads
    yield "head_count_kv", config.num_key_value_heads
    yield "key_length", head_dim(config)
    yield "value_length", head_dim(config)
    yield "layer_norm_rms_eps", config.rms_norm_eps
    yield "rope_dimension_count", head_dim(config)
    yield "rope_freq_base", float(config.rope_parameters["rope_theta"])
    yield "vocab_size", config.vocab_size
