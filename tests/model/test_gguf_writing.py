"""A model as a GGUF file: what lies in it, what is read back of it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tokenizers import Regex, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase

from tests.gguf_files import TEMPLATE, llama, tokenizer
from tuneoff.errors import ModelError
from tuneoff.model.base import build_model, load_config, load_model, make_config
from tuneoff.model.gguf import Origin, check_writable, read_back, write_file
from tuneoff.model.gguf.vocabulary import vocabulary_of
from tuneoff.model.tokenizer import load_tokenizer
from tuneoff.use.export import gguf_reading

ORIGIN = Origin("run-lora", "apache-2.0", "ada/tiny", "c0ffee1")
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXTS = ("x  3", "12345", "\n\n9 a 20 b", "Hello Ada, 2 lamps  for 45 dollars!", "½ ²", "  a", "</s>a <pad>")
SHAPE = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 400, "max_position_embeddings": 512,
}  # fmt: skip


@pytest.fixture
def own() -> PreTrainedTokenizerBase:
    return tokenizer()


def by_name(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def said(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


@pytest.mark.parametrize("tied", [True, False])
def test_what_lies_in_the_file(tied: bool, own: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    model, path = llama(tied), tmp_path / "it.gguf"
    own.chat_template = TEMPLATE
    assert write_file(path, model, own, "F16", [own.eos_token_id, 7], ORIGIN) == (20 if tied else 21)
    tensors, metadata = by_name(path), said(path)
    assert ("output.weight" in tensors) != tied
    query = model.model.layers[1].self_attn.q_proj.weight.detach().numpy()
    rows = [0, 8, 1, 9, 2, 10]  # of the first head, whose 16 rows are two halves: they take turns
    assert np.array_equal(tensors["blk.1.attn_q.weight"].data[:6], query[rows].astype(np.float16))
    key = model.model.layers[1].self_attn.k_proj.weight.detach().numpy()
    assert np.array_equal(tensors["blk.1.attn_k.weight"].data[16:20], key[[16, 24, 17, 25]].astype(np.float16))
    assert np.array_equal(tensors["output_norm.weight"].data, model.model.norm.weight.detach().numpy())
    vocabulary = own.get_vocab()
    expected = {
        "general.architecture": "llama", "general.name": "run-lora", "general.license": "apache-2.0",
        "general.base_model.0.name": "tiny", "general.base_model.0.organization": "ada",
        "general.base_model.0.repo_url": "https://huggingface.co/ada/tiny", "general.base_model.0.version": "c0ffee1",
        "general.file_type": 1, "llama.block_count": 2, "llama.context_length": 512, "llama.embedding_length": 64,
        "llama.feed_forward_length": 96, "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 16, "llama.rope.dimension_count": 16, "llama.rope.freq_base": 10000.0,
        "llama.attention.layer_norm_rms_epsilon": pytest.approx(1e-5), "llama.vocab_size": 400,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.unknown_token_id": 2, "tokenizer.ggml.eot_token_id": 7,
        "tokenizer.ggml.add_bos_token": False, "tokenizer.chat_template": TEMPLATE,
    }  # fmt: skip
    assert {name: metadata.get(name) for name in expected} == expected
    assert "tokenizer.ggml.bos_token_id" not in metadata
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    assert tokens[:3] == ["<pad>", "</s>", "<unk>"] and types[:4] == [3, 3, 3, 1]
    assert {token: number for number, token in enumerate(tokens) if types[number] != 5} == vocabulary
    merges = json.loads(own.backend_tokenizer.to_str())["model"]["merges"]
    assert metadata["tokenizer.ggml.merges"] == [" ".join(pair) for pair in merges]


def split_by(own: PreTrainedTokenizerBase, name: str) -> None:
    """Make a tokenizer split texts as those published do whose GGUF says `name`."""
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name != "llama-bpe")
    if name == "smollm":
        own.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), level])
    elif name == "llama-bpe":
        split = pre_tokenizers.Split(Regex(LLAMA_3), "isolated")
        own.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
        own.backend_tokenizer.model.ignore_merges = True


@pytest.mark.parametrize("split", ["gpt-2", "smollm", "llama-bpe"])
def test_the_tokenizer_read_back_is_the_same(split: str, own: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    split_by(own, split)
    path = tmp_path / "it.gguf"
    write_file(path, llama(), own, "Q8_0", [1], ORIGIN)
    assert said(path)["tokenizer.ggml.pre"] == split
    assert read_back(path, tmp_path / "read").warnings == []
    read = load_tokenizer(str(tmp_path / "read"), None)
    assert [read(text)["input_ids"] for text in TEXTS] == [own(text)["input_ids"] for text in TEXTS]


def test_a_token_that_begins_every_text_is_told(own: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    own.bos_token = "<unk>"
    begun = processors.TemplateProcessing(single="<unk> $A", special_tokens=[("<unk>", 2)])
    own.backend_tokenizer.post_processor = begun
    write_file(tmp_path / "it.gguf", llama(), own, "F16", [1], ORIGIN)
    assert said(tmp_path / "it.gguf")["tokenizer.ggml.add_bos_token"] is True
    read_back(tmp_path / "it.gguf", tmp_path / "read")
    read = load_tokenizer(str(tmp_path / "read"), None)
    assert read("a")["input_ids"] == own("a")["input_ids"] == [2, *own("a", add_special_tokens=False)["input_ids"]]
    own.bos_token = "<pad>"
    with pytest.raises(ModelError, match=r"its tokenizer begins every text with \['<unk>'\]"):
        vocabulary_of(own, 400)


def test_a_piece_that_is_a_token_is_taken_whole(own: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    """As Llama 3's tokenizer does it, whatever the merges make of the piece."""
    split_by(own, "llama-bpe")
    values = json.loads(own.backend_tokenizer.to_str())
    token = max((t for t in values["model"]["vocab"] if t.isalpha() and t.isascii()), key=len)
    values["model"]["merges"] = [pair for pair in values["model"]["merges"] if "".join(pair) != token]
    own._tokenizer = type(own.backend_tokenizer).from_str(json.dumps(values))
    assert own(token)["input_ids"] == [own.get_vocab()[token]]
    write_file(tmp_path / "it.gguf", llama(), own, "F16", [1], ORIGIN)
    read_back(tmp_path / "it.gguf", tmp_path / "read")
    assert load_tokenizer(str(tmp_path / "read"), None)(token)["input_ids"] == own(token)["input_ids"]


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ({"model_type": "mistral", "sliding_window": None}, "llama"),
        ({"model_type": "qwen2"}, "qwen2"),
        ({"model_type": "qwen3", "head_dim": 128}, "qwen3"),
        ({"model_type": "llama", "head_dim": 32, "rope_theta": 5e5, "rms_norm_eps": 1e-6}, "llama"),
        ({"model_type": "llama", "num_key_value_heads": 4, "intermediate_size": 80}, "llama"),  # 80 is no whole block
    ],
)
def test_families_are_read_back_whole(
    shape: dict[str, Any], named: str, own: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    config = make_config({k: v for k, v in {**SHAPE, **shape}.items() if k != "rope_theta"})
    if "rope_theta" in shape:
        config.rope_parameters["rope_theta"] = shape["rope_theta"]
    model = build_model(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.uniform_(0.5, 1.5) if "norm" in name else weight.normal_()
    for kind, near in (("F16", 1e-2), ("Q8_0", 0.2)):
        path, read = tmp_path / f"{kind}.gguf", tmp_path / kind
        write_file(path, model, own, kind, [1], ORIGIN)  # type: ignore[arg-type]
        header = read_back(path, read)
        assert (header.architecture, header.file_type) == (named, kind)
        gguf_reading._require_same_settings(model.config, load_config(str(read), None))
        assert gguf_reading._require_same_weights(model, read, kind) == len(by_name(path))  # type: ignore[arg-type]
        loaded = load_model(str(read), None, "causal", torch.float32).eval()
        ids = torch.arange(40).reshape(2, 20)
        assert torch.allclose(loaded(ids).logits, model(ids).logits, atol=near)
    assert by_name(path)["blk.0.ffn_down.weight"].tensor_type.name == ("F16" if 80 in shape.values() else "Q8_0")


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ({"model_type": "gpt_neox"}, "its architecture is gpt_neox; a GGUF is written of llama, mistral, qwen2, qwen3"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}}, "scaled or rotated in part"),
        ({"hidden_act": "gelu"}, "its activation is gelu"),
        ({"model_type": "mistral", "sliding_window": 128}, "a sliding window of 128 tokens"),
        ({"model_type": "qwen3", "head_dim": 16}, "its heads have 16 dimensions; only 128 can be read back"),
        ({"vocab_size": 100}, "its tokenizer has 400 tokens, and the model 100 embeddings"),
    ],
)
def test_a_model_that_a_gguf_cannot_say_is_refused(
    shape: dict[str, Any], reason: str, own: PreTrainedTokenizerBase
) -> None:
    values = {**SHAPE, "model_type": "llama", **shape}
    if values["model_type"] == "gpt_neox":
        values = {"model_type": "gpt_neox"}
    with pytest.raises(ModelError) as caught:
        check_writable(make_config(values), own)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_a_weight_that_has_no_place_or_no_number_is_refused(own: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    biased = build_model(make_config({**SHAPE, "model_type": "llama", "attention_bias": True}))
    with pytest.raises(ModelError, match=r"its weight model.layers.0.self_attn.q_proj.bias has no place in a GGUF"):
        write_file(tmp_path / "it.gguf", biased, own, "F16", [1], ORIGIN)
    for value in (7e4, torch.nan):
        model = llama()
        with torch.no_grad():
            model.model.layers[0].mlp.up_proj.weight[3, 5] = value
        with pytest.raises(ModelError, match=r"its weight blk.0.ffn_up.weight has values that F16 cannot hold"):
            write_file(tmp_path / "it.gguf", model, own, "F16", [1], ORIGIN)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "its tokenizer changes texts first (Lowercase)"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "its tokenizer is BPE, and a GGUF is written with byte-level BPE"),
        ({"byte_fallback": True}, "its tokenizer is BPE of SentencePiece's kind"),
        ({"split": "other"}, "splits texts in a way that has no name here"),
        ({"prefix": True}, "splits texts in a way that has no name here"),
        ({"ignore_merges": True}, "splits texts in a way that has no name here"),
        ({"end_of_word_suffix": "</w>"}, "its tokenizer has end_of_word_suffix '</w>'"),
        ({"lstrip": True}, "its token '<pad>' takes spaces or words beside it"),
    ],
)
def test_a_tokenizer_that_a_gguf_cannot_say_is_refused(
    changed: dict[str, Any], reason: str, own: PreTrainedTokenizerBase
) -> None:
    values = json.loads(own.backend_tokenizer.to_str())
    [(name, value)] = changed.items()
    if name == "split":
        expression = {"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated", "invert": False}
        level = {**values["pre_tokenizer"], "use_regex": False}
        values["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [expression, level]}
    elif name == "prefix":
        values["pre_tokenizer"]["add_prefix_space"] = value
    elif name == "lstrip":
        values["added_tokens"][0]["lstrip"] = value
    else:
        (values if name in values else values["model"])[name] = value
    own._tokenizer = SimpleNamespace(to_str=lambda: json.dumps(values))
    with pytest.raises(ModelError) as caught:
        vocabulary_of(own, 400)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_a_tokenizer_that_composes_characters_is_told(own: PreTrainedTokenizerBase) -> None:
    assert not vocabulary_of(own, 400).composes
    own.backend_tokenizer.normalizer = normalizers.NFC()
    assert vocabulary_of(own, 400).composes
