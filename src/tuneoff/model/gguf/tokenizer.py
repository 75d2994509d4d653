"""The tokenizer that a GGUF file holds, which splits a text as the model's own does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.errors import ModelError, first_line
from tuneoff.folder import write_whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# How byte-level BPE splits a text before its merges: `tokenizer.ggml.pre`, by llama.cpp's names (src/llama-vocab.cpp).
# transformers 5.23 has regular expressions for some of them, and takes GPT-2's for all others, without a word.
BY_GPT2 = {
    "gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4", "gigachat", "a.x-4.0", "mellum",
}  # fmt: skip
DIGITS_FIRST = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
# Where a piece of the text is a token of the vocabulary, it is taken as that one, whatever the merges make of it.
WHOLE_FIRST = {
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano", "tekken",
}  # fmt: skip
WRITTEN = ("llama-bpe", "dbrx", "tekken", "qwen2", "gpt-4o")  # of the names with an expression, those that are written


def read_tokenizer(folder: Path, file: str, kind: str | None, split: str | None) -> tuple[PreTrainedTokenizerBase, str]:
    """The tokenizer of the GGUF `file` in `folder`, and what is not known of it: a warning, or nothing.

    `kind` is the file's `tokenizer.ggml.model` (`gpt2` for byte-level BPE), `split` its `tokenizer.ggml.pre`. Raises
    ModelError.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), gguf_file=file, trust_remote_code=False)
    except Exception as error:  # of a library, whatever it does not know
        raise ModelError(f"its tokenizer cannot be read: {first_line(error)}") from error
    if kind == "gpt2" and split in WHOLE_FIRST:
        tokenizer.backend_tokenizer.model.ignore_merges = True
    if kind != "gpt2" or split in GGUF_PRE_TOKENIZER_SPLITS or split in BY_GPT2:
        return tokenizer, ""
    if split in DIGITS_FIRST:
        # Every digit by itself, then GPT-2's expression on what is between digits. This differs from GPT-2's alone in
        # white space before a digit: `a  1` has the two spaces in one piece.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        return tokenizer, ""
    return tokenizer, (
        f"the GGUF file says that its tokenizer splits texts the way {split!r}, which is not known here: they are "
        "split as GPT-2 does it, so that numbers, spaces and marks may become other tokens than the model was trained "
        "on. model.tokenizer takes the published tokenizer"
    )


def split_name(values: dict[str, Any], whole_first: bool) -> str | None:
    """llama.cpp's name of how a byte-level tokenizer splits texts, None where it has none of those known here.

    `values` is the pre-tokenizer of its tokenizer.json. `whole_first` says whether a piece that is a token is taken
    whole (`ignore_merges`).
    """
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    parts = values.get("pretokenizers", [values])
    if any(part.get("add_prefix_space") for part in parts):
        return None
    match [(part["type"], part) for part in parts]:
        case [("ByteLevel", level)] if level["use_regex"] and not whole_first:
            return "gpt-2"
        case [("Digits", digits), ("ByteLevel", level)] if level["use_regex"] and not whole_first:
            return "smollm" if digits["individual_digits"] else None
        case [("Split", split), ("ByteLevel", level)] if not level["use_regex"]:
            if (split["behavior"], split["invert"]) != ("Isolated", False):
                return None
            expression = split["pattern"].get("Regex")
            return next(
                (
                    name
                    for name in WRITTEN
                    if GGUF_PRE_TOKENIZER_SPLITS[name] == expression and (name in WHOLE_FIRST) == whole_first
                ),
                None,
            )
    return None


def drop_foreign_tokens(path: Path, count: int) -> None:
    """Take tokens out of a tokenizer.json that the GGUF file's vocabulary of `count` tokens has not.

    transformers 5.23 adds GPT-2's `<|endoftext|>` to every byte-level vocabulary, at an id without an embedding.
    """
    if path.is_file():
        values = json.loads(path.read_text(encoding="utf-8"))
        values["added_tokens"] = [token for token in values["added_tokens"] if token["id"] < count]
        write_whole(path, json.dumps(values, ensure_ascii=False))
