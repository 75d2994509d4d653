"""A recipe and what was read of it → the resolved recipe: the one file that every trial runs by."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from tuneoff.data.contents import hash_base, hash_tokenizer
from tuneoff.data.conversations import MESSAGES, last_question
from tuneoff.data.inputs import Inputs
from tuneoff.data.tokens import load_tokens
from tuneoff.decode.search import left_off
from tuneoff.folder import RunFolder
from tuneoff.model.base import build_model, generation_config_of
from tuneoff.model.device import pick_device, pick_precision
from tuneoff.model.saved import save_whole
from tuneoff.progress import ProgressListener
from tuneoff.recipe import Recipe
from tuneoff.records import ChosenEngine, Floor, Resolved
from tuneoff.score.floors import floors
from tuneoff.score.metrics import find_metrics


@dataclass(frozen=True)
class Location:
    """Where a model or tokenizer is loaded from: a name of the hub and its commit, or a folder and its hash."""

    path: str
    revision: str | None
    sha256: str | None

    def __str__(self) -> str:
        return f"sha256 {self.sha256[:12]}" if self.sha256 is not None else f"commit {self.revision}"


def resolve(
    recipe: Recipe,
    folder: RunFolder,
    inputs: Inputs,
    tell: ProgressListener,
    engines: Mapping[str, ChosenEngine],
    micro_batch: int,
) -> Resolved:
    """Settle what `recipe` leaves open, and write `resolved.json`.

    A model of random weights is built into the run's folder. `engines` are those of the arms. `micro_batch` is the
    plan's, for a recipe that has none. Raises ModelError.
    """
    model, tokenizer = locate_model(recipe, folder, inputs, tell), locate_tokenizer(inputs)
    precision = pick_precision(recipe.training.precision, pick_device())
    resolved = Resolved(
        run=uuid4().hex,
        directory=str(Path.cwd()),
        recipe=recipe.model_dump(mode="json"),
        model_path=model.path,
        model_revision=model.revision,
        model_sha256=model.sha256,
        model_class=inputs.model_class,
        tokenizer_path=tokenizer.path,
        tokenizer_revision=tokenizer.revision,
        tokenizer_sha256=tokenizer.sha256,
        data_revision=inputs.data_revision,
        tokens=inputs.tokens,
        data=inputs.data,
        engines=dict(engines),
        precision=precision.name,
        precision_reason=precision.reason,
        micro_batch=recipe.training.micro_batch or micro_batch,
        learning_rates={name: arm.learning_rate for name, arm in recipe.arms.items()},
        ranks=inputs.ranks,
        groups=inputs.groups,
        warnings=[*inputs.warnings, *_search_warnings(recipe, model)],
        floors=_floors(recipe, inputs, tell),
        chat=inputs.chat,
        gguf=inputs.gguf,
    )
    resolved.write(folder.resolved)
    return resolved


def _floors(recipe: Recipe, inputs: Inputs, tell: ProgressListener) -> list[Floor]:
    tell.phase("score what no model wrote")
    rows = load_tokens(inputs.tokens[recipe.evaluation.split])
    column = recipe.data.input
    inputs_of = [columns[column] if column else last_question(columns[MESSAGES]) for columns in rows["columns"]]
    return floors(
        list(zip(inputs_of, rows["references"], strict=True)),
        find_metrics(recipe.evaluation.metrics, recipe.evaluation.modules),
    )


def _search_warnings(recipe: Recipe, model: Location) -> list[str]:
    """What the model's own generation config asks for, and is not done."""
    own = generation_config_of(model.path, model.revision)
    settings = left_off(own, recipe.evaluation.search) if own is not None else []
    if not settings:
        return []
    return [f"the model's own generation config sets {', '.join(settings)}: left off, the recipe does not ask for it"]


def locate_model(recipe: Recipe, folder: RunFolder, inputs: Inputs, tell: ProgressListener) -> Location:
    """Where trials load the original model from. One of random weights is built in the run's folder, once."""
    if inputs.model_path is None and not folder.base.is_dir():
        tell.phase("build model")
        save_whole(build_model(copy.deepcopy(inputs.config)), inputs.tokenizer, folder.base)
    path = inputs.model_path or str(folder.base.resolve())
    if not Path(path).is_dir():
        return Location(path, inputs.model_revision, None)
    tell.phase("hash model")
    # A GGUF file of the hub has a commit, too: the folder that it was converted to is asked for by its hash.
    return Location(path, inputs.model_revision if inputs.gguf else None, hash_base(Path(path), tell.progress))


def locate_tokenizer(inputs: Inputs) -> Location:
    """Where trials load the tokenizer from."""
    path = Path(inputs.tokenizer_path)
    if not path.is_dir():
        return Location(inputs.tokenizer_path, inputs.tokenizer_revision, None)
    return Location(inputs.tokenizer_path, None, hash_tokenizer(path))
