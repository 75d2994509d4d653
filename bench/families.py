"""Tiny configurations of the model families that tuneoff is checked on: random weights, trained in seconds.

`FAMILIES` gives for each name the values of a recipe's `model.config` (without a vocabulary's size, which
the tokenizer gives), the class of model, and the linear layers that LoRA adapts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

POSITIONS = 256


@dataclass(frozen=True)
class Family:
    """`config` as in a recipe; `targets` are peft's `target_modules` for LoRA."""

    config: dict[str, Any]
    kind: Literal["seq2seq", "causal"]
    targets: tuple[str, ...]


T5 = {
    "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2,
    "dropout_rate": 0.0,
}  # fmt: skip
GATED = {**T5, "feed_forward_proj": "gated-gelu"}
BART = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": POSITIONS, "dropout": 0.0,
}  # fmt: skip
LED = {key: value for key, value in BART.items() if key != "max_position_embeddings"}
PROPHETNET = {
    "hidden_size": 32, "encoder_ffn_dim": 64, "num_encoder_layers": 2, "num_encoder_attention_heads": 2,
    "decoder_ffn_dim": 64, "num_decoder_layers": 2, "num_decoder_attention_heads": 2,
    "max_position_embeddings": POSITIONS, "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0,
}  # fmt: skip
DECODER = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": POSITIONS,
}  # fmt: skip
LLAMA = {**DECODER, "intermediate_size": 64, "num_key_value_heads": 2}
GEMMA = {**LLAMA, "head_dim": 8}

# A layer that is left out at random gets no gradient in that step.
ALL_LAYERS = {"encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0}

# Attention alone, by the names that the families give its projections.
Q_V = ("q", "v")
Q_V_PROJ = ("q_proj", "v_proj")


def _t5(kind: str, **more: Any) -> Family:
    return Family({"model_type": kind, **GATED, **more}, "seq2seq", Q_V)


def _bart(kind: str, **more: Any) -> Family:
    return Family({"model_type": kind, **BART, **more}, "seq2seq", Q_V_PROJ)


def _llama(kind: str, **more: Any) -> Family:
    return Family({"model_type": kind, **LLAMA, **more}, "causal", Q_V_PROJ)


FAMILIES: dict[str, Family] = {
    "t5-gated": _t5("t5", tie_word_embeddings=False),
    "t5-relu": Family({"model_type": "t5", **T5, "feed_forward_proj": "relu"}, "seq2seq", Q_V),
    "mt5": _t5("mt5", tie_word_embeddings=False),
    "umt5": _t5("umt5", tie_word_embeddings=False),
    "longt5": _t5("longt5", local_radius=15),
    "switch_transformers": Family(
        {
            "model_type": "switch_transformers", **T5, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1,
            "num_experts": 2, "router_jitter_noise": 0.0,
        },
        "seq2seq",
        Q_V,
    ),
    "bart": _bart("bart"),
    "mbart": _bart("mbart"),
    "pegasus": _bart("pegasus"),
    "pegasus_x": _bart("pegasus_x", block_size=16, num_global_tokens=4),
    "blenderbot": _bart("blenderbot"),
    "blenderbot-small": _bart("blenderbot-small"),
    "marian": _bart("marian"),
    "m2m_100": _bart("m2m_100", **ALL_LAYERS),
    "led": Family(
        {
            "model_type": "led", **LED, "max_encoder_position_embeddings": POSITIONS,
            "max_decoder_position_embeddings": POSITIONS, "attention_window": 16,
        },
        "seq2seq",
        ("query", "value", "query_global", "value_global", "q_proj", "v_proj"),
    ),
    "bigbird_pegasus": Family(
        {"model_type": "bigbird_pegasus", **BART, "attention_type": "original_full"},
        "seq2seq",
        ("query", "value", "q_proj", "v_proj"),
    ),
    "prophetnet": Family({"model_type": "prophetnet", **PROPHETNET}, "seq2seq", ("query_proj", "value_proj")),
    "plbart": _bart("plbart"),
    "fsmt": _bart("fsmt", langs=["en", "de"]),
    "nllb-moe": _bart(
        "nllb-moe", num_experts=2, encoder_sparse_step=2, decoder_sparse_step=2, **ALL_LAYERS
    ),
    "gpt2": Family(
        {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS},
        "causal",
        ("c_attn",),
    ),
    "gpt_neo": Family(
        {
            "model_type": "gpt_neo", "hidden_size": 32, "num_layers": 2, "num_heads": 4, "window_size": 16,
            "max_position_embeddings": POSITIONS, "attention_types": [[["global", "local"], 1]],
        },
        "causal",
        Q_V_PROJ,
    ),
    "gpt_neox": Family(
        {"model_type": "gpt_neox", **DECODER, "intermediate_size": 64}, "causal", ("query_key_value",)
    ),
    "opt": Family(
        {"model_type": "opt", **DECODER, "ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.0}, "causal", Q_V_PROJ
    ),
    "bloom": Family(
        {"model_type": "bloom", "hidden_size": 32, "n_layer": 2, "n_head": 4}, "causal", ("query_key_value",)
    ),
    "llama": _llama("llama"),
    "mistral": _llama("mistral", sliding_window=64),
    "mixtral": _llama("mixtral", num_local_experts=2, num_experts_per_tok=1),
    "qwen2": _llama("qwen2"),
    "qwen3": _llama("qwen3", head_dim=8),
    "gemma": Family({"model_type": "gemma", **GEMMA}, "causal", Q_V_PROJ),
    "gemma2": Family({"model_type": "gemma2", **GEMMA, "sliding_window": 64}, "causal", Q_V_PROJ),
    "gemma3_text": Family({"model_type": "gemma3_text", **GEMMA, "sliding_window": 64}, "causal", Q_V_PROJ),
    "phi": Family({"model_type": "phi", **LLAMA}, "causal", Q_V_PROJ),
    "phi3": Family({"model_type": "phi3", **LLAMA}, "causal", ("qkv_proj",)),
    "falcon": Family(
        {
            "model_type": "falcon", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "max_position_embeddings": POSITIONS,
        },
        "causal",
        ("query_key_value",),
    ),
    "smollm3": _llama("smollm3"),
    "olmo": _llama("olmo"),
    "stablelm": _llama("stablelm"),
}  # fmt: skip
