"""Tiny GGUF files of random Llamas, written by the package `gguf`, and what must be read of them, computed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from tests.conftest import dialogue
from tuneoff.model.base import build_model, make_config
from tuneoff.model.tokenizer import train_tokenizer

HEADS, KV_HEADS, LAYERS, HIDDEN, INNER, VOCABULARY = 4, 2, 2, 64, 96, 400
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def llama(tied: bool = True) -> Any:
    """A random model with norms that are not all one."""
    model = build_model(
        make_config(
            {
                "model_type": "llama",
                "hidden_size": HIDDEN,
                "intermediate_size": INNER,
                "num_hidden_layers": LAYERS,
                "num_attention_heads": HEADS,
                "num_key_value_heads": KV_HEADS,
                "vocab_size": VOCABULARY,
                "rms_norm_eps": 1e-5,
                "max_position_embeddings": 512,
                "tie_word_embeddings": tied,
            }
        )
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
    return model.eval()


def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer((" ".join(dialogue(number)[:2]) for number in range(40)), VOCABULARY, "causal")


def gguf_name(name: str) -> str:
    """llama.cpp's name of a tensor of transformers' Llama."""
    known = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
             "lm_head.weight": "output.weight"}  # fmt: skip
    if name in known:
        return known[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def permuted(name: str, weight: np.ndarray) -> np.ndarray:
    """Rows as llama.cpp has them: of each head, the two halves that are rotated together take turns."""
    heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(name.split(".")[-2])
    if heads is None:
        return weight
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def unpermuted(name: str, weight: np.ndarray) -> np.ndarray:
    heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(name.split(".")[-2])
    if heads is None:
        return weight
    rows, width = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, width).swapaxes(1, 2).reshape(rows, width)


def write_gguf(
    path: Path,
    model: Any,
    own: PreTrainedTokenizerBase,
    kind: str = "F16",
    *,
    pre: str = "smollm",
    architecture: str = "llama",
    inner: int = INNER,
    leave_out: str = "",
    extra: str = "",
    parts: int = 0,
) -> dict[str, torch.Tensor]:
    """Write `model` with its matrices held as `kind`; returns the weights that must be read, by transformers' names.

    `inner` is what the file says of the width between the two layers of an MLP, which the model has not where it is
    another. `leave_out` and `extra` are the name of a tensor that is not written, and of one that the model has not.
    """
    held = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type({"F16": 1, "Q8_0": 7, "Q4_1": 3}[kind])
    writer.add_license("apache-2.0")
    if parts:
        writer.add_uint16("split.count", parts)
    _add_tokenizer(writer, own, pre)
    expected = {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        values = permuted(name, weight.numpy())
        if values.ndim == 1:
            data, read, stored = values, values, gguf.GGMLQuantizationType.F32
        else:
            data, stored = gguf.quants.quantize(values, held), held
            read = {"F16": _f16, "Q8_0": _q8_0, "Q4_1": _q4_1}[kind](data, values.shape)
        expected[name] = torch.from_numpy(unpermuted(name, read).astype(np.float32))
        if name != leave_out:
            writer.add_tensor(gguf_name(name), np.ascontiguousarray(data), raw_dtype=stored)
    if extra:
        writer.add_tensor(extra, np.ones(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def _add_tokenizer(writer: gguf.GGUFWriter, own: PreTrainedTokenizerBase, pre: str) -> None:
    ids = own.get_vocab()
    tokens = sorted(ids, key=ids.__getitem__)
    tokens += [f"[PAD{n}]" for n in range(len(tokens), VOCABULARY)]
    merges = json.loads(own.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in own.all_special_tokens else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(own.eos_token_id)
    writer.add_pad_token_id(own.pad_token_id)
    writer.add_unk_token_id(own.unk_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _f16(data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return data.astype(np.float32).reshape(shape)


def _q8_0(data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Blocks of 32 weights: a scale in fp16, then an int8 each."""
    blocks = data.reshape(-1, 34)
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    return (scale * blocks[:, 2:].view(np.int8).astype(np.float32)).reshape(shape)


def _q4_1(data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Blocks of 32 weights: a scale and a minimum in fp16, then 16 bytes: the first 16 weights are the low halves."""
    blocks = data.reshape(-1, 20)
    scale, minimum = (blocks[:, n : n + 2].copy().view(np.float16).astype(np.float32) for n in (0, 2))
    numbers = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1).astype(np.float32)
    return (scale * numbers + minimum).reshape(shape)
