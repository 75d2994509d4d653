"""What training leaves: a model or an adapter in `save_pretrained`'s layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.errors import ModelError, first_line
from tuneoff.folder import folder_written_whole
from tuneoff.model.base import load_model
from tuneoff.model.methods import uses_peft
from tuneoff.records import Resolved
from tuneoff.room import room_for

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_start(model: Any, path: Path) -> bool:
    """Save an adapter as it starts where it cannot be saved without: see `save_whole`. Returns whether it was saved.

    `init_lora_weights: pissa_niter_N` takes the adapter out of the base model by a random algorithm. Neither can be
    found again when the adapter is loaded, so that peft can only save its difference to the start.
    """
    config: Any = getattr(model, "peft_config", {}).get("default")
    start = getattr(config, "init_lora_weights", None)
    if not (isinstance(start, str) and start.startswith("pissa_niter_")):
        return False
    _sort_settings(model)
    config.init_lora_weights = True
    model.save_pretrained(path)
    config.init_lora_weights = start
    return True


def save_whole(model: Any, tokenizer: PreTrainedTokenizerBase, path: Path, start: Path | None = None) -> None:
    """Model (or adapter) and tokenizer in `save_pretrained`'s layout, there whole or not at all.

    `start` is the folder of `save_start`, if it saved something: the adapter is then saved as an ordinary LoRA of twice
    the rank on the original model. Raises WriteError where the disk has no room.
    """
    _sort_settings(model)
    difference = {"path_initial_model_for_weight_conversion": str(start)} if start else {}
    with room_for(path, _trained_bytes(model)), folder_written_whole(path) as folder:
        model.save_pretrained(folder, **difference)
        (folder / "README.md").unlink(missing_ok=True)  # peft's is an empty form; an export writes a card of its own
        tokenizer.save_pretrained(folder)


def _trained_bytes(model: Any) -> int:
    """What the trained weights take, or all where none is (a model that is saved as it is)."""
    weights = list(model.parameters())
    trained = [weight for weight in weights if weight.requires_grad] or weights
    return sum(weight.numel() * weight.element_size() for weight in trained)


def _sort_settings(model: Any) -> None:
    """Turn the sets in peft's settings into lists in order: a set is written in another order by every process."""
    for config in getattr(model, "peft_config", {}).values():
        for name, value in vars(config).items():
            if isinstance(value, set):
                setattr(config, name, sorted(value))


def load_arm(resolved: Resolved, method: str, saved: Path, dtype: torch.dtype) -> Any:
    """What an arm generates with: the original model, the trained one (`saved`), or the original with its adapter.

    Raises ModelError.
    """
    if method == "full":
        return load_model(str(saved), None, resolved.model_class, dtype)
    model = load_model(resolved.model_path, resolved.model_revision, resolved.model_class, dtype)
    return load_adapter(model, saved) if uses_peft(method) else model


def load_adapter(model: PreTrainedModel, path: Path) -> Any:
    """`model` with the adapter saved in `path`, frozen. Raises ModelError."""
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(model, str(path))
    except Exception as error:  # missing, damaged, or of another model
        first = first_line(error)
        raise ModelError(f"cannot load the adapter in {path}: {first}") from error
