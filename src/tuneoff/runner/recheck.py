"""A resumed run: what it was resolved to stands, and is compared with what is there now. Nothing is resolved again."""

from __future__ import annotations

from pathlib import Path

from tuneoff.data.inputs import Inputs
from tuneoff.data.pretrained import Pins
from tuneoff.errors import RecipeChangedError
from tuneoff.folder import RunFolder
from tuneoff.progress import ProgressListener
from tuneoff.recipe import resolved_recipe
from tuneoff.records import Resolved, SplitStatistics
from tuneoff.runner.resolve import Location, locate_model, locate_tokenizer


def pins_of(resolved: Resolved) -> Pins:
    """The commits that a run has pinned on the hub."""
    return Pins(resolved.model_revision, resolved.tokenizer_revision, resolved.data_revision)


def recheck(folder: RunFolder, resolved: Resolved, inputs: Inputs, tell: ProgressListener) -> None:
    """Compare what a run was resolved to with `inputs`, which were read at the commits that it has pinned.

    `resolved.json` stays as it is, unless a folder that it names has moved. Raises RecipeChangedError where the model,
    the tokenizer or the data are others.
    """
    model, tokenizer = locate_model(resolved_recipe(resolved), folder, inputs, tell), locate_tokenizer(inputs)
    was_model = Location(resolved.model_path, resolved.model_revision, resolved.model_sha256)
    was_tokenizer = Location(resolved.tokenizer_path, resolved.tokenizer_revision, resolved.tokenizer_sha256)
    changes = [
        f"{name} {now.path}: {was} → {now}"
        for name, was, now in (("model", was_model, model), ("tokenizer", was_tokenizer, tokenizer))
        if (was.revision, was.sha256) != (now.revision, now.sha256)
    ]
    changes += _changed_data(resolved, inputs)
    if changes:
        shown = "\n  ".join(changes)
        raise RecipeChangedError(
            f"{folder.path} holds a run on another model or other data:\n  {shown}\n"
            "Choose another folder with --out, or undo the change to go on with this one."
        )
    moved = _moved(resolved, model.path, inputs)
    if moved != resolved:
        moved.write(folder.resolved)


def _changed_data(resolved: Resolved, inputs: Inputs) -> list[str]:
    """A line for each split that differs, or whose tokens are gone and come out otherwise."""
    changes = []
    for split in {**resolved.data, **inputs.data}:
        was, now = resolved.data.get(split), inputs.data.get(split)
        if was is None or now is None or was.content_sha256 != now.content_sha256:
            changes.append(f"data {split}: {_described(was)} → {_described(now)}")
            continue
        if resolved.groups.get(split) != inputs.groups.get(split):
            changes.append(f"data {split}: other groups of the same examples")
            continue
        before, after = Path(resolved.tokens[split]), Path(inputs.tokens[split])
        if before.name != after.name and not before.is_dir():
            changes.append(f"tokens of {split}: {before.name} → {after.name}")
    return changes


def _described(statistics: SplitStatistics | None) -> str:
    if statistics is None:
        return "(not there)"
    return f"{statistics.examples} examples, sha256 {statistics.content_sha256[:12]}"


def _moved(resolved: Resolved, model_path: str, inputs: Inputs) -> Resolved:
    """`resolved` with today's places of the folders that were found to hold the same.

    Tokens stay where they are while they are there: another version of tuneoff may make others of the same data.
    """

    def place(before: str, now: str) -> str:
        return now if Path(now).is_dir() else before

    tokens = {
        split: path if Path(path).is_dir() else place(path, inputs.tokens[split])
        for split, path in resolved.tokens.items()
    }
    places = {
        "model_path": place(resolved.model_path, model_path),
        "tokenizer_path": place(resolved.tokenizer_path, inputs.tokenizer_path),
    }
    return resolved.model_copy(update={**places, "tokens": tokens})
