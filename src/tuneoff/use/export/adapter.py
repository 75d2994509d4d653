"""peft's adapter, and what it goes with: a name on the hub at a pinned commit, or the original model beside it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.model.base import load_model
from tuneoff.report.card.build import model_origin
from tuneoff.runner.finished import Finished
from tuneoff.use.export.merged import scored_dtype, search_config

if TYPE_CHECKING:
    from transformers import GenerationConfig


def write_adapter(finished: Finished, folder: Path) -> GenerationConfig:
    """The trained adapter, unchanged, with tokenizer and generation config. Raises ModelError.

    An original model that is not on the hub is copied to `folder/base`: a stranger could not get it. So is one that was
    converted from a GGUF file, which peft's loading of a base model by its name does not read.
    """
    from peft import PeftConfig
    from peft.utils import SAFETENSORS_WEIGHTS_NAME

    resolved = finished.resolved
    origin = model_origin(finished.recipe, resolved)
    base = load_model(resolved.model_path, resolved.model_revision, resolved.model_class, scored_dtype(finished))
    config = PeftConfig.from_pretrained(str(finished.trial.model))
    config.base_model_name_or_path = origin.loads or "./base"
    config.revision = origin.revision if origin.loads else None
    config.save_pretrained(str(folder))
    shutil.copyfile(finished.trial.model / SAFETENSORS_WEIGHTS_NAME, folder / SAFETENSORS_WEIGHTS_NAME)
    if origin.loads is None:
        base.save_pretrained(folder / "base")
    search = search_config(finished, base)
    search.save_pretrained(folder)
    finished.tokenizer.save_pretrained(folder)
    return search
