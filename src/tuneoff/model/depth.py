"""A model's depth: what is known of a shallow one tells of a deep one of the same widths."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Whose values say how deep a stack is.
NAMES = ("num_layers", "num_decoder_layers", "num_hidden_layers", "encoder_layers", "decoder_layers", "n_layer")


def depth_of(config: PretrainedConfig) -> int | None:
    """The layers of each stack; None where stacks differ, or layers do (a list says of which kind each is)."""
    depths = {value for name in NAMES if (value := getattr(config, name, None)) is not None}
    kinds = getattr(config, "layer_types", None) or []
    if len(depths) != 1 or len(set(kinds)) > 1 or getattr(config, "attention_layers", None):
        return None
    return int(depths.pop())


def shallow(config: PretrainedConfig, depth: int) -> PretrainedConfig:
    """The same model with at most `depth` layers a stack."""
    own = copy.deepcopy(config)
    for name in NAMES:
        if getattr(own, name, None) is not None:
            setattr(own, name, min(depth, getattr(own, name)))
    if getattr(own, "layer_types", None):
        own.layer_types = own.layer_types[:depth]
    return own


def widths_of(config: PretrainedConfig) -> str:
    """What tells models apart whatever their depth."""
    values = {key: value for key, value in config.to_dict().items() if key not in NAMES}
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:12]
