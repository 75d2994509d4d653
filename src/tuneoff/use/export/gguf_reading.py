"""Whether a GGUF file holds what its arm is: read back as a model is, and compared weight by weight."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuneoff.data.tokens import Tokenization
from tuneoff.errors import ExportError, ModelError
from tuneoff.model.base import load_config
from tuneoff.model.gguf import Held, held_as, read_back
from tuneoff.model.gguf.vocabulary import vocabulary_of
from tuneoff.model.quiet import quiet
from tuneoff.model.tokenizer import load_tokenizer
from tuneoff.records import read_predictions
from tuneoff.report.card import ReadBack
from tuneoff.runner.finished import Finished
from tuneoff.use.export.gguf import FILE
from tuneoff.use.export.merged import scored_model
from tuneoff.use.export.verify import rows_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

# Settings of transformers' config that change what a model computes, and that the file says.
SETTINGS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "hidden_act", "max_position_embeddings", "vocab_size", "rms_norm_eps",
)  # fmt: skip
BLOCK = 32  # weights of Q8_0 that share a scale


def read_f16(finished: Finished, folder: Path) -> ReadBack:
    """See `_read`, of a file whose matrices are held in F16."""
    return _read(finished, folder, "F16")


def read_q8_0(finished: Finished, folder: Path) -> ReadBack:
    """See `_read`, of a file whose matrices are held in Q8_0."""
    return _read(finished, folder, "Q8_0")


def _read(finished: Finished, folder: Path, kind: Held) -> ReadBack:
    """Read the file in `folder` as a model is read, and compare it with the arm's merged model and its tokenizer.

    Every weight must be the merged one as its type rounds it, the settings and the chat template must be the same, and
    the prompts of all scored examples must become the same tokens. Raises ExportError where something is not.
    """
    rows = rows_of(finished.recipe, read_predictions(finished.trial.predictions))
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".read-") as read:
        try:
            with quiet():
                header = read_back(folder / FILE, Path(read) / "model")
            gc.collect()
            tokenizer = load_tokenizer(str(Path(read) / "model"), None)
        except ModelError as error:
            raise ExportError(f"the GGUF file cannot be read back, and is not kept: {error}") from error
        _require_same_tokenizer(finished, tokenizer, rows)
        with quiet():
            model = scored_model(finished)
        _require_same_settings(model.config, load_config(str(Path(read) / "model"), None))
        compared = _require_same_weights(model, Path(read) / "model", kind)
    return ReadBack(
        file=FILE,
        type=header.file_type,
        tensors=compared,
        texts=len(rows),
        template=tokenizer.chat_template is not None,
        composes=vocabulary_of(finished.tokenizer, model.config.vocab_size).composes,
    )


def _require_same_weights(model: Any, read: Path, kind: Held) -> int:
    """The count of tensors in the folder `read`, which are all of the model's. Raises ExportError where one differs."""
    own = dict(model.named_parameters())
    seen = set()
    for name, values in _weights(read):
        if name not in own or values.shape != own[name].shape:
            raise _other(f"its weight {name} is not the model's")
        held = held_as(tuple(values.shape), kind)
        beyond = _beyond(own[name].detach().float().numpy(), values.numpy(), held)
        if beyond:
            raise _other(
                f"{beyond} of the {values.numel()} numbers of {name} are not the model's as {held} rounds them"
            )
        seen.add(name)
    lacking = sorted(own.keys() - seen)
    if lacking:
        raise _other(f"it has no weight {lacking[0]}")
    return len(seen)


def _weights(read: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """The saved weights in a folder, one at a time."""
    from safetensors import safe_open

    for file in sorted(read.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no dict
                yield name, opened.get_tensor(name)


def _beyond(exact: Any, read: Any, held: str) -> int:
    """How many of the numbers read are further from the exact ones than rounding to the type brings them.

    A number in Q8_0 is off by half of its block's scale at most. The scale itself is an F16, which is off by 2^-11 of
    itself at most (2^-25 where it is that small), and a number is 127 steps of it at most.
    """
    if held == "F32":
        return int((exact != read).sum())
    if held == "F16":
        return int((exact.astype(np.float16).astype(np.float32) != read).sum())
    blocks = exact.reshape(-1, BLOCK).astype(np.float64)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 127
    most = 0.5 * scale + 127 * np.maximum(scale * 2**-11, 2**-25)
    return int((np.abs(blocks - read.reshape(-1, BLOCK)) > most * (1 + 1e-5)).sum())


def _require_same_settings(own: Any, read: Any) -> None:
    """Raise ExportError where the model read back computes by other settings. The file holds fractions in fp32."""
    pairs = {name: (getattr(own, name, None), getattr(read, name, None)) for name in SETTINGS}
    pairs["rope_theta"] = own.rope_parameters["rope_theta"], read.rope_parameters["rope_theta"]
    for name, (mine, other) in pairs.items():
        if name == "head_dim" and mine is None:
            continue  # its width says it
        same = np.float32(mine) == np.float32(other) if isinstance(mine, float) else mine == other
        if not same:
            raise _other(f"{name} is {other}, and was {mine}")


def _require_same_tokenizer(finished: Finished, read: PreTrainedTokenizerBase, rows: list[dict[str, str]]) -> None:
    """Raise ExportError where the tokenizer read back asks the model by other tokens, or has another chat template."""
    own = finished.tokenizer
    if (own.chat_template and own.get_chat_template()) != (read.chat_template and read.get_chat_template()):
        raise _other("its chat template is another")
    if own.get_vocab().items() - read.get_vocab().items():
        raise _other("its tokens are others")
    for role in ("bos", "eos", "pad"):
        mine, other = (getattr(one, f"{role}_token_id") for one in (own, read))
        if mine != other:
            raise _other(f"its token for {role} is {other}, and was {mine}")
    as_read = Tokenization.of(finished.recipe, read, finished.resolved.model_class, finished.resolved.chat)
    for row, mine, other in zip(rows, finished.tokenization.prompts(rows), as_read.prompts(rows), strict=True):
        if mine != other:
            raise _other(f"the prompt for {next(iter(row.values()))[:60]!r} becomes other tokens")


def _other(what: str) -> ExportError:
    return ExportError(f"the GGUF file does not hold what the arm is, and is not kept: {what}")
