"""A byte-level BPE tokenizer as a GGUF file holds it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneoff.errors import ModelError
from tuneoff.model.gguf.tokenizer import split_name

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # gguf.TokenType
PROBE = "a"  # a text that shows which tokens the tokenizer adds around every text
PLACES = ("lstrip", "rstrip", "single_word")  # settings of an added token that a GGUF does not have


@dataclass(frozen=True)
class Vocabulary:
    """`tokens` by their ids, each with its type; `merges` as pairs with a space between; `split` is llama.cpp's name.

    `begins` says whether every text begins with BOS. `composes` says whether the tokenizer composes characters first
    (Unicode NFC), which llama.cpp does not.
    """

    tokens: list[str]
    types: list[int]
    merges: list[str]
    split: str
    begins: bool
    composes: bool


def vocabulary_of(tokenizer: PreTrainedTokenizerBase, size: int) -> Vocabulary:
    """The vocabulary of a model with `size` embeddings. Raises ModelError where a GGUF cannot say it.

    Ids without a token are unused tokens there.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError("its tokenizer has no tokenizer.json to write a vocabulary from")
    values = json.loads(backend.to_str())
    model, normalizer = values["model"], values["normalizer"]
    _require_byte_level(model, values["pre_tokenizer"])
    if normalizer is not None and normalizer != {"type": "NFC"}:
        raise ModelError(f"its tokenizer changes texts first ({normalizer['type']}), which a GGUF does not say")
    split = split_name(values["pre_tokenizer"], bool(model.get("ignore_merges")))
    if split is None:
        raise ModelError("its tokenizer splits texts in a way that has no name here (tokenizer.ggml.pre)")
    odd = [one["content"] for one in values["added_tokens"] if any(one[place] for place in PLACES)]
    if odd:
        raise ModelError(f"its token {odd[0]!r} takes spaces or words beside it, which a GGUF does not say")
    tokens, types = _tokens(tokenizer, size)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return Vocabulary(tokens, types, merges, split, _begins(tokenizer), composes=normalizer is not None)


def _require_byte_level(model: dict[str, Any], split: dict[str, Any] | None) -> None:
    """Raise ModelError where it is no byte-level BPE as llama.cpp computes it."""
    parts = (split or {}).get("pretokenizers", [split])
    if model["type"] != "BPE" or model.get("byte_fallback") or {"type": "ByteLevel"} not in map(_type, parts):
        kind = f"{model['type']} of SentencePiece's kind" if model.get("byte_fallback") else model["type"]
        raise ModelError(f"its tokenizer is {kind}, and a GGUF is written with byte-level BPE alone")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise ModelError(f"its tokenizer has {name} {model[name]!r}, which a GGUF does not say")


def _type(part: dict[str, Any] | None) -> dict[str, Any]:
    return {"type": part["type"]} if part else {}


def _tokens(tokenizer: PreTrainedTokenizerBase, size: int) -> tuple[list[str], list[int]]:
    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    if max(by_id) >= size:
        raise ModelError(f"its tokenizer has {max(by_id) + 1} tokens, and the model {size} embeddings")
    added = tokenizer.added_tokens_decoder
    types = [
        (CONTROL if added[number].special else USER_DEFINED)
        if number in added
        else NORMAL if number in by_id else UNUSED
        for number in range(size)
    ]  # fmt: skip
    return [by_id.get(number, f"[PAD{number}]") for number in range(size)], types


def _begins(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether BOS is added before every text. Raises ModelError where it is another token."""
    whole, bare = (tokenizer(PROBE, add_special_tokens=special)["input_ids"] for special in (True, False))
    before = next(whole[:n] for n in range(len(whole) + 1) if whole[n : n + len(bare)] == bare)
    if before not in ([], [tokenizer.bos_token_id]):
        begun = tokenizer.convert_ids_to_tokens(before)
        raise ModelError(f"its tokenizer begins every text with {begun}, which a GGUF does not say")
    return bool(before)
