"""Tiny models of random weights, of every family that the decoder engine computes."""

from __future__ import annotations

from typing import Any

import torch
import transformers

VOCABULARY = 120
COMMON = {
    "vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 72, "num_hidden_layers": 3,
    "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
# By name: the class's prefix, and the settings that the family is known for.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"tie_word_embeddings": True}),
    "llama with biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama 3 rotary": (
        "Llama",
        {"rope_parameters": {
            "rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16}},
    ),
    "mistral": ("Mistral", {"sliding_window": 5, "head_dim": 12}),
    "qwen2": ("Qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "smollm3": ("SmolLM3", {"no_rope_layer_interval": 2}),
    "smollm3 by layer types": (
        "SmolLM3",
        {"use_sliding_window": False, "sliding_window": 5,
         "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    ),
    "gemma": ("Gemma", {"head_dim": 16}),
    "an activation that is not asked for": ("Llama", {"hidden_act": "silu", "hidden_activation": "gelu_pytorch_tanh"}),
    "gemma2": (
        "Gemma2",
        {"head_dim": 16, "sliding_window": 5, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0,
         "query_pre_attn_scalar": 20},
    ),
    "gemma3": (
        "Gemma3",
        {"head_dim": 16, "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"] * 2},
    ),
    "phi3": ("Phi3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}),
    "olmo2": ("Olmo2", {}),
    "granite": (
        "Granite",
        {"embedding_multiplier": 3.0, "attention_multiplier": 0.2, "residual_multiplier": 0.6, "logits_scaling": 1.7},
    ),
}  # fmt: skip


def build(family: str, seed: int) -> Any:
    """A model in fp32 whose norms and biases are as far from 1 and 0 as trained ones may be."""
    prefix, own = FAMILIES[family]
    settings = {**COMMON, **own}
    if "layer_types" in settings:
        settings["num_hidden_layers"] = len(settings["layer_types"])
    config = getattr(transformers, "Gemma3TextConfig" if prefix == "Gemma3" else f"{prefix}Config")(**settings)
    torch.manual_seed(seed)
    model = getattr(transformers, f"{prefix}ForCausalLM")(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1:
                weight.add_(0.3 * torch.randn_like(weight))
            elif "embed" not in name and "lm_head" not in name:
                weight.mul_(5)
    return model.train()


def batch(seed: int) -> dict[str, torch.Tensor]:
    """Padded on the right; each example's targets are its last tokens, and one has a target in between."""
    torch.manual_seed(seed)
    examples, width = int(torch.randint(1, 5, ())), int(torch.randint(8, 24, ()))
    lengths = torch.randint(3, width + 1, (examples,))
    lengths[0] = width
    at = torch.arange(width)
    mask = (at < lengths[:, None]).long()
    ids = torch.randint(3, VOCABULARY, (examples, width)) * mask
    begins = (lengths * torch.rand(examples)).long().clamp(min=1)
    labels = ids.masked_fill((at < begins[:, None]) | (mask == 0), -100)
    labels[0, 1] = ids[0, 1]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
