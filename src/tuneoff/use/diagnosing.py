"""Finished trials, diagnosed: what training did to the weights of every arm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.diagnose.diagnosis import diagnose
from tuneoff.errors import RunFolderError
from tuneoff.folder import RunFolder
from tuneoff.model.base import load_model
from tuneoff.model.merge import can_merge, shared_adapted_layers
from tuneoff.model.quiet import quiet
from tuneoff.model.saved import load_adapter
from tuneoff.progress import ProgressListener
from tuneoff.records import Diagnosis, TrialResult
from tuneoff.use.writer import Finished

if TYPE_CHECKING:
    import torch


def diagnose_run(folder: RunFolder, tell: ProgressListener) -> list[Diagnosis]:
    """Diagnose every trial that has trained, and write `diagnosis.json` of each.

    Arms that train all weights go first: the others' updates are compared with that of the first of them at the same
    seed. Raises RunFolderError where the run is no run, at work or without such a trial, ModelError or DamagedFileError
    where a model is not what it was, and WriteError.
    """
    with folder.lock():
        trials = _finished(folder)
        if not trials:
            raise RunFolderError(f"{folder.path} has no finished trial that trained: there is nothing to diagnose")
        trials.sort(key=lambda trial: trial.spec.method != "full")
        directions: dict[int, dict[str, torch.Tensor]] = {}
        found = []
        tell.phase("load")
        with quiet():
            before = _original(trials[0])
        for trial in trials:
            tell.phase(f"diagnose {trial.name} at seed {trial.seed}")
            blank = Diagnosis(origin=trial.result.origin, arm=trial.name, seed=trial.seed)
            with quiet():
                after, refused = _trained(trial)
            if refused is not None:
                diagnosis = blank.model_copy(update={"refused": refused})
            else:
                diagnosis, own = diagnose(
                    before,
                    after,
                    stored_dtype(trial.trial.model),
                    blank,
                    against=directions.get(trial.seed),
                    report=tell.progress,
                )
                if trial.spec.method == "full":
                    directions.setdefault(trial.seed, own)
            found.append((trial, diagnosis))
        for trial, diagnosis in found:
            diagnosis.write(trial.trial.diagnosis)
    return [diagnosis for _, diagnosis in found]


def stored_dtype(folder: Path) -> torch.dtype:
    """The coarsest floating-point dtype of the weights in a folder of safetensors."""
    import torch
    from safetensors import safe_open

    names = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
    found = []
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found += [names.get(file.get_slice(key).get_dtype()) for key in file.keys()]  # noqa: SIM118
    return max((dtype for dtype in found if dtype is not None), key=lambda dtype: torch.finfo(dtype).eps)


def _finished(folder: RunFolder) -> list[Finished]:
    """The trials of the run that have trained and are done, in the recipe's order."""
    from tuneoff.recipe import recipe_of, trials

    recipe = recipe_of(folder)
    return [
        Finished(folder, trial.arm, trial.seed)
        for trial in trials(recipe)
        if recipe.arms[trial.arm].trains and _is_done(folder.trial(trial.arm, trial.seed).result)
    ]


def _is_done(result: Path) -> bool:
    return result.is_file() and TrialResult.read(result).status == "done"


def _original(trial: Finished) -> Any:
    import torch

    resolved = trial.resolved
    return load_model(resolved.model_path, resolved.model_revision, resolved.model_class, torch.float32)


def _trained(trial: Finished) -> tuple[Any, str | None]:
    """The trained model in fp32 with its adapter merged, or why its update is not one of the model's weights."""
    import torch

    trial.require_whole()
    if trial.spec.method == "full":
        return load_model(str(trial.trial.model), None, trial.resolved.model_class, torch.float32), None
    model = load_adapter(_original(trial), trial.trial.model)
    if shared := shared_adapted_layers(model):
        return None, f"{shared[0]} is adapted and shares its weights with another layer"
    if not can_merge(model):
        return None, f"what {trial.spec.method} trains is no update of the model's weights"
    return model.merge_and_unload(), None
