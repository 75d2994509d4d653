"""A plain transformers model: the weights that the trial was scored with, an adapter merged into them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.decode.search import search_settings, steering
from tuneoff.errors import ExportError
from tuneoff.model.device import Precision
from tuneoff.model.merge import shared_adapted_layers
from tuneoff.model.methods import uses_peft
from tuneoff.model.saved import load_arm
from tuneoff.runner.finished import Finished

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig


def write_merged(finished: Finished, folder: Path) -> GenerationConfig:
    """Model, generation config and tokenizer as `save_pretrained` writes them. Raises ExportError, ModelError."""
    model = scored_model(finished)
    search = model.generation_config = search_config(finished, model)
    model.save_pretrained(folder)
    finished.tokenizer.save_pretrained(folder)
    return search


def scored_model(finished: Finished) -> Any:
    """The model in its trial's precision, on the CPU, without adapters.

    Raises ExportError where peft cannot merge, or where merging would change more than the adapter does.
    """
    method = finished.spec.method
    model = load_arm(finished.resolved, method, finished.trial.model, scored_dtype(finished)).eval()
    if not uses_peft(method):
        return model
    shared = shared_adapted_layers(model)
    if shared:
        raise ExportError(
            f"arm {finished.name}: the adapter on {', '.join(shared)} cannot be merged: its weights are shared (tied) "
            "with another module, and merging would change both; --format adapter keeps it exact"
        )
    try:
        return model.merge_and_unload()
    except (AttributeError, NotImplementedError, ValueError) as error:
        # A prompt is no weight: those methods have nothing to merge, and others refuse some of their settings.
        raise ExportError(
            f"arm {finished.name}: {method} cannot be merged into the model's weights; --format adapter keeps it apart"
        ) from error


def scored_dtype(finished: Finished) -> torch.dtype:
    """What the trial's weights were held in when it was scored."""
    name = (finished.result.precision or "").partition(":")[0]
    return Precision("bf16" if name == "bf16" else "fp32", "as in the trial").dtype


def search_config(finished: Finished, model: Any) -> GenerationConfig:
    """How the trial searched."""
    evaluation = finished.recipe.evaluation
    return search_settings(
        model, finished.tokenizer, evaluation.max_new_tokens, evaluation.search, finished.resolved.chat
    )


def require_plain_model(finished: Finished, config: GenerationConfig, format: str) -> None:
    """Raise ExportError where the model steers the search, or has a tokenizer that does not go with `format`."""
    if steered := steering(config):
        raise ExportError(
            f"arm {finished.name}: the model's generation config sets {', '.join(steered)}, "
            f"which the code for {format} does not follow; --format merged does"
        )
    if not (finished.tokenizer.is_fast and getattr(finished.tokenizer, "backend_tokenizer", None)):
        raise ExportError(
            f"arm {finished.name}: its tokenizer has no tokenizer.json to go with {format}; merged needs none"
        )
