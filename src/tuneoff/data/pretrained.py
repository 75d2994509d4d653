"""The model that a recipe names: where it lies, and its config and tokenizer at the commits that a run has pinned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.builtin import gguf_of, located
from tuneoff.data.contents import hash_file
from tuneoff.errors import ModelError, first_line
from tuneoff.model.base import load_config, make_config, model_class
from tuneoff.model.gguf import converted
from tuneoff.model.tokenizer import load_tokenizer, train_tokenizer
from tuneoff.progress import ProgressListener
from tuneoff.recipe.schema import ModelSpec, Recipe, TokenizerSpec
from tuneoff.records import GgufFile

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Pins:
    """The commits that a run has pinned on the hub, so that no branch is asked again; None where none is known."""

    model: str | None = None
    tokenizer: str | None = None
    data: str | None = None


@dataclass(frozen=True)
class Place:
    """Where a model is loaded from: a hub name, or a folder.

    `revision` is what is asked of the hub. Of a GGUF file the folder is in the cache, where it has been converted to;
    `gguf` is what the file says, and `revision` its commit, if it is of the hub.
    """

    path: str
    revision: str | None
    gguf: GgufFile | None = None


def place_of(name: str, gguf: str | None, revision: str | None, tell: ProgressListener) -> Place:
    """Where the model of a recipe's `name` is loaded from; what is a GGUF file is converted where it was not before.

    `gguf` is the file in that folder or repository, None where the model is not given so. Raises ModelError.
    """
    path, gguf = located(name, tell), gguf or gguf_of(name)
    if gguf is None:
        return Place(path, revision)
    file, commit = _local(Path(path), gguf) if Path(path).is_dir() else _of_hub(path, gguf, revision)
    tell.phase(f"hash {file.name}")
    folder, header = converted(file, hash_file(file, tell.progress), tell)
    return Place(str(folder), commit, header)


def original_place(model: ModelSpec, pins: Pins, tell: ProgressListener) -> Place | None:
    """Where a pretrained original model is loaded from; None for one of random weights. Raises ModelError."""
    if model.name is None:
        return None
    return place_of(model.name, model.gguf, pins.model or model.revision, tell)


def _local(folder: Path, gguf: str) -> tuple[Path, None]:
    if not (folder / gguf).is_file():
        there = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.gguf"))
        raise ModelError(f"there is no file {gguf!r} in {folder}: {_shown(there)}")
    return folder / gguf, None


def _of_hub(name: str, gguf: str, revision: str | None) -> tuple[Path, str | None]:
    """The file of a repository, downloaded where it is not in the hub's cache, and its commit. Raises ModelError."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError
    from transformers.utils.hub import extract_commit_hash

    try:
        file = hf_hub_download(name, gguf, revision=revision)
    except EntryNotFoundError as error:
        there = _of_repository(name, revision)
        if there is None:
            raise ModelError(f"cannot load {gguf!r} of the model {name!r}: {first_line(error)}") from error
        raise ModelError(f"there is no file {gguf!r} in {name} on the hub: {_shown(there)}") from None
    except Exception as error:  # no such repository, no way to it, no such name: of several types
        hint = "" if "/" not in name else " Is it the name of a model on the hub, or of a folder here?"
        raise ModelError(f"cannot load {gguf!r} of the model {name!r}: {first_line(error)}{hint}") from error
    return Path(file), extract_commit_hash(file, None)


def _of_repository(name: str, revision: str | None) -> list[str] | None:
    """The GGUF files of a repository; None where it cannot be asked."""
    from huggingface_hub import list_repo_files

    try:
        return sorted(file for file in list_repo_files(name, revision=revision) if file.endswith(".gguf"))
    except Exception:  # no way to the hub
        return None


def _shown(files: list[str]) -> str:
    return f"the GGUF files there are {', '.join(files)}" if files else "no GGUF file is there"


def read_config(recipe: Recipe, base: Path | None, original: Place | None, tell: ProgressListener) -> PretrainedConfig:
    """The original model's config; that of a model of random weights from `base` where it has been built.

    Raises ModelError.
    """
    model = recipe.model
    if original is not None:
        return load_config(original.path, original.revision)
    if base is not None and base.is_dir():
        return load_config(str(base), None)
    if isinstance(model.config, dict):
        return make_config(model.config)
    assert model.config is not None
    known = place_of(model.config, None, model.revision, tell)
    return load_config(known.path, known.revision)


def original_commit(model: ModelSpec, original: Place | None, config: PretrainedConfig, pins: Pins) -> str | None:
    """The commit of the hub that the original model is of, or what the recipe calls it; None for a local GGUF file."""
    if original is not None and original.gguf is not None:
        return original.revision
    return commit_of(config) or pins.model or model.revision


def commit_of(config: PretrainedConfig) -> str | None:
    """The commit of the hub that a config was loaded from, if any."""
    return getattr(config, "_commit_hash", None)


def read_tokenizer(
    recipe: Recipe,
    base: Path | None,
    original: Place | None,
    config: PretrainedConfig,
    texts: Iterable[str],
    pins: Pins,
    tell: ProgressListener,
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
    name = model.tokenizer or model.config
    if original is not None and model.tokenizer is None:
        path = original.path
    else:
        assert isinstance(name, str)
        path = place_of(name, None, model.revision if model.tokenizer is None else None, tell).path
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
