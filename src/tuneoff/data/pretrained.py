"""The config and the tokenizer that a recipe names, read at the commits that a run has pinned. No weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.builtin import located
from tuneoff.model.base import load_config, make_config, model_class
from tuneoff.model.tokenizer import load_tokenizer, train_tokenizer
from tuneoff.recipe.schema import Recipe, TokenizerSpec

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Pins:
    """The commits that a run has pinned on the hub, so that no branch is asked again; None where none is known."""

    model: str | None = None
    tokenizer: str | None = None
    data: str | None = None


def read_config(recipe: Recipe, base: Path | None, pins: Pins) -> PretrainedConfig:
    """The original model's config; that of a model of random weights from `base` where it has been built.

    Raises ModelError.
    """
    model = recipe.model
    if model.name is not None:
        return load_config(located(model.name), pins.model or model.revision)
    if base is not None and base.is_dir():
        return load_config(str(base), None)
    if isinstance(model.config, dict):
        return make_config(model.config)
    assert model.config is not None
    return load_config(located(model.config), model.revision)


def commit_of(config: PretrainedConfig) -> str | None:
    """The commit of the hub that a config was loaded from, if any."""
    return getattr(config, "_commit_hash", None)


def read_tokenizer(
    recipe: Recipe, base: Path | None, config: PretrainedConfig, texts: Iterable[str], pins: Pins
) -> tuple[PreTrainedTokenizerBase, str, str | None]:
    """The tokenizer, and the path and revision that trials load it from.

    One that is to be trained on the training split's `texts` is trained once: it lies with the model of random weights
    in `base`. Raises ModelError.
    """
    model = recipe.model
    if isinstance(model.tokenizer, TokenizerSpec):
        path = str(base.resolve()) if base is not None else ""
        if base is not None and base.is_dir():
            return load_tokenizer(path, None), path, None
        return train_tokenizer(texts, model.tokenizer.vocab_size, model_class(config)), path, None
    name = model.tokenizer or model.name or model.config
    assert isinstance(name, str)
    path = located(name)
    of_model = (commit_of(config) or model.revision) if model.tokenizer is None else None
    tokenizer = load_tokenizer(path, pins.tokenizer or of_model)
    return tokenizer, path, pins.tokenizer or of_model or _tokenizer_commit(path)


def _tokenizer_commit(name: str) -> str | None:
    """The commit of the hub that a tokenizer was just loaded from; None for a folder."""
    from transformers.utils.hub import cached_file, extract_commit_hash

    if Path(name).is_dir():
        return None
    file = cached_file(
        name, "tokenizer_config.json", local_files_only=True, _raise_exceptions_for_missing_entries=False
    )
    return extract_commit_hash(file, None)
