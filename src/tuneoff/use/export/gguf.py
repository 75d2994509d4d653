"""A GGUF file for llama.cpp, by the package `gguf`: the merged model, its tokenizer and its chat template."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.errors import ExportError, ModelError
from tuneoff.model.base import load_config
from tuneoff.model.gguf import Held, Origin, check_writable, write_file
from tuneoff.report.card.build import licence_name, model_origin
from tuneoff.runner.finished import Finished
from tuneoff.use.export.merged import require_plain_model, scored_model, search_config

if TYPE_CHECKING:
    from transformers import GenerationConfig

FILE = "model.gguf"


def write_f16(finished: Finished, folder: Path) -> GenerationConfig:
    """The model with its matrices in F16, and its tokenizer. Raises ExportError where a GGUF cannot say the model."""
    return _write(finished, folder, "F16")


def write_q8_0(finished: Finished, folder: Path) -> GenerationConfig:
    """The model with its matrices in Q8_0: 8 bits for a weight, and a scale for every 32. Raises ExportError."""
    return _write(finished, folder, "Q8_0")


def _write(finished: Finished, folder: Path, kind: Held) -> GenerationConfig:
    # Before the weights are loaded and merged, which takes its time.
    config = load_config(finished.resolved.model_path, finished.resolved.model_revision)
    with _refusing(finished):
        check_writable(config, finished.tokenizer)
    model = scored_model(finished)
    search = search_config(finished, model)
    require_plain_model(finished, search, "llama.cpp")
    ends = search.eos_token_id if isinstance(search.eos_token_id, list) else [search.eos_token_id]
    original = model_origin(finished.recipe, finished.resolved)
    origin = Origin(f"{finished.run}-{finished.name}", licence_name(original), original.hub, original.revision)
    with _refusing(finished):
        write_file(folder / FILE, model, finished.tokenizer, kind, ends, origin)
    finished.tokenizer.save_pretrained(folder)
    return search


@contextmanager
def _refusing(finished: Finished) -> Iterator[None]:
    """Raise ExportError, which names the arm, in place of ModelError."""
    try:
        yield
    except ModelError as error:
        raise ExportError(
            f"arm {finished.name} cannot be written as a GGUF: {error}. --format merged takes any"
        ) from error
