"""What all trials share, made and checked before the first: the model pinned or built, the data the same."""

from __future__ import annotations

import copy

from tuneoff.builtin import located
from tuneoff.errors import RecipeChangedError
from tuneoff.folder import RunFolder
from tuneoff.model.base import build_model
from tuneoff.model.saved import save_whole
from tuneoff.planner.inputs import Inputs
from tuneoff.recipe.schema import Recipe
from tuneoff.records import Prepared


def prepare(recipe: Recipe, folder: RunFolder, inputs: Inputs) -> Prepared:
    """Make what every trial of `recipe` shares, and write `prepared.json`.

    Raises ModelError before anything is trained, and RecipeChangedError where finished trials were made of other data.
    """
    model_path, revision = _model(recipe, folder, inputs)
    prepared = Prepared(
        model_path=model_path,
        model_revision=revision,
        model_class=inputs.model_class,
        tokenizer_path=inputs.tokenizer_path,
        tokenizer_revision=inputs.tokenizer_revision,
        data_revision=inputs.data_revision,
        tokens=inputs.tokens,
        data=inputs.data,
        warnings=inputs.warnings,
    )
    _refuse_other_data(folder, prepared)
    prepared.write(folder.prepared)
    return prepared


def _model(recipe: Recipe, folder: RunFolder, inputs: Inputs) -> tuple[str, str | None]:
    """Where trials load the model from: its name and pinned commit, or the folder where it was built, once."""
    model = recipe.model
    if model.name is not None:
        return located(model.name), getattr(inputs.config, "_commit_hash", None) or model.revision
    if not folder.base.is_dir():
        save_whole(build_model(copy.deepcopy(inputs.config)), inputs.tokenizer, folder.base)
    return str(folder.base.resolve()), None


def _refuse_other_data(folder: RunFolder, prepared: Prepared) -> None:
    """Raise RecipeChangedError where trials already finished on other data than today's."""
    if not folder.prepared.is_file() or not any(folder.path.glob("trials/*/*/result.json")):
        return
    before = Prepared.read(folder.prepared)
    for split, statistics in prepared.data.items():
        old = before.data.get(split)
        if old is not None and old.content_sha256 != statistics.content_sha256:
            raise RecipeChangedError(
                f"{folder.path}: the {split} data are not those that its finished trials saw "
                f"({old.examples} examples then, {statistics.examples} now). Choose another folder with --out."
            )
