"""A model and its tokenizer → one GGUF file, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tuneoff.errors import ModelError
from tuneoff.model.gguf.architectures import architecture_of, laid_out, metadata, named_weights
from tuneoff.model.gguf.vocabulary import Vocabulary, vocabulary_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Held = Literal["F16", "Q8_0"]
Q8_0_BLOCK = 32  # weights that share a scale
MOST = {"F32": inf, "F16": 65504, "Q8_0": 127 * 65504}  # the largest weight; the scale of Q8_0 is an F16


@dataclass(frozen=True)
class Origin:
    """What the file says of itself beside the model. `base` is the original model's name on the hub, if any."""

    name: str
    license: str | None
    base: str | None
    revision: str | None


def check_writable(config: Any, tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
    """The vocabulary that a file would hold. Raises ModelError, in a line, where a GGUF cannot say the model."""
    architecture_of(config)
    return vocabulary_of(tokenizer, config.vocab_size)


def write_file(
    path: Path, model: Any, tokenizer: PreTrainedTokenizerBase, kind: Held, ends: list[int], origin: Origin
) -> int:
    """Write `model` with its matrices held as `kind`, and return the count of tensors.

    `ends` are the tokens that end a text. Raises ModelError where a GGUF cannot say the model; then nothing is written.
    """
    from gguf import GGUFWriter
    from gguf.quants import quant_shape_to_byte_shape, quantize

    architecture = architecture_of(model.config)
    vocabulary = vocabulary_of(tokenizer, model.config.vocab_size)
    weights = named_weights(model, architecture)
    _require_held(weights, kind)
    writer = GGUFWriter(path, architecture.name)
    _add_origin(writer, origin)
    for name, value in metadata(model.config):
        getattr(writer, f"add_{name}")(value)
    writer.add_file_type({"F16": 1, "Q8_0": 7}[kind])
    if kind == "Q8_0":
        writer.add_quantization_version(2)
    _add_tokenizer(writer, tokenizer, vocabulary, ends)
    for name, weight in weights.items():
        shape = quant_shape_to_byte_shape(weight.shape, _type(held_as(weight.shape, kind)))
        writer.add_tensor_info(name, shape, np.dtype(np.uint8), prod(shape), _type(held_as(weight.shape, kind)))
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, weight in weights.items():
            values = laid_out(name, weight.detach().float().cpu().numpy(), model.config, architecture)
            writer.write_tensor_data(np.ascontiguousarray(quantize(values, _type(held_as(weight.shape, kind)))))
    finally:
        writer.close()
    return len(weights)


def held_as(shape: tuple[int, ...], kind: Held) -> Literal["F32", "F16", "Q8_0"]:
    """How a weight of this shape is held: norms and biases exactly, matrices as `kind`.

    A matrix whose rows are not whole blocks of Q8_0 is held as F16, as llama.cpp's own converter does it.
    """
    if len(shape) == 1:
        return "F32"
    return "F16" if shape[-1] % Q8_0_BLOCK else kind


def _require_held(weights: Mapping[str, Any], kind: Held) -> None:
    """Raise ModelError where a weight is beyond what its type holds, or is no number."""
    for name, weight in weights.items():
        held = held_as(weight.shape, kind)
        if not weight.detach().abs().max().item() <= MOST[held]:
            raise ModelError(f"its weight {name} has values that {held} cannot hold")


def _type(held: str) -> Any:
    from gguf import GGMLQuantizationType

    return GGMLQuantizationType[held]


def _add_origin(writer: Any, origin: Origin) -> None:
    writer.add_type("model")
    writer.add_name(origin.name)
    if origin.license is not None:
        writer.add_license(origin.license)
    if origin.base is not None:
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, origin.base.rpartition("/")[2])
        writer.add_base_model_repo_url(0, f"https://huggingface.co/{origin.base}")
        if origin.base.count("/") == 1:
            writer.add_base_model_organization(0, origin.base.partition("/")[0])
        if origin.revision is not None:
            writer.add_base_model_version(0, origin.revision)


def _add_tokenizer(writer: Any, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary, ends: list[int]) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.split)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    for role in ("bos", "eos", "unk", "pad"):
        number = getattr(tokenizer, f"{role}_token_id")
        if number is not None:
            getattr(writer, f"add_{role}_token_id")(number)
    others = [number for number in ends if number != tokenizer.eos_token_id]
    if others:
        writer.add_eot_token_id(others[-1])
    writer.add_add_bos_token(vocabulary.begins)
    writer.add_add_eos_token(False)  # a prompt goes on where it ends
    writer.add_add_space_prefix(False)
    if tokenizer.chat_template is not None:
        writer.add_chat_template(tokenizer.get_chat_template())
