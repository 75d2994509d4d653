"""The last part of a run: what training did to the weights of every arm, and what the arm has forgotten."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tuneoff.diagnose.diagnosis import diagnose
from tuneoff.diagnose.stored import StoredWeights
from tuneoff.diagnose.variants import set_cut, set_scaled
from tuneoff.errors import DoesNotFitError, RunFolderError, TuneoffError
from tuneoff.folder import RunFolder
from tuneoff.model.base import load_model
from tuneoff.model.device import pick_device
from tuneoff.model.merge import can_merge, shared_adapted_layers
from tuneoff.model.quiet import quiet
from tuneoff.model.saved import load_adapter
from tuneoff.planner.fit import host_memory, this_machine
from tuneoff.progress import ProgressListener
from tuneoff.recipe import recipe_of
from tuneoff.recipe.diagnose import DiagnoseSpec
from tuneoff.records import Diagnosis, Retained, TrialResult, UpdateLosses, VariantLosses
from tuneoff.runner.diagnosed import finished_trials
from tuneoff.runner.finished import Finished
from tuneoff.runner.variant_losses import VariantMeter
from tuneoff.score.update import loss_change
from tuneoff.units import bytes_text

Directions = Mapping[str, torch.Tensor]
FILLED = 0.85  # of a memory that a model may fill: activations want some, too
SCRATCH = ".diagnosis-"  # how a folder of the run begins that holds weights while it is diagnosed


def diagnose_run(folder: RunFolder, tell: ProgressListener) -> list[Diagnosis]:
    """Diagnose every trial that has trained and is done: `diagnosis.json`, `losses.json` and `retained` of its result.

    Raises RunFolderError where the run is no run, at work or without such a trial, ModelError or DamagedFileError
    where a model is not what it was, DataError where the recipe's retained texts cannot be read, DoesNotFitError where
    the model in fp32 is larger than the machine's memory, and WriteError.
    """
    with folder.lock():
        return RunDiagnosis(folder, tell).carry_out()


class RunDiagnosis:
    """Diagnoses the finished trials of a run, one after another.

    Arms that train all weights go first: the others' updates are compared with that of the first of them at the same
    seed. Nothing is trained. One model is held in fp32 at a time; the original's weights and those of the trial at
    hand lie in the run's folder meanwhile, at 4 bytes a weight each. Raises as `diagnose_run`.
    """

    def __init__(self, folder: RunFolder, tell: ProgressListener) -> None:
        recipe = recipe_of(folder)
        self._folder, self._tell = folder, tell
        self._trials = finished_trials(folder, recipe)
        if not self._trials:
            raise RunFolderError(f"{folder.path} has no finished trial that trained: there is nothing to diagnose")
        self._trials.sort(key=lambda trial: trial.spec.method != "full")
        self._spec = recipe.diagnose or DiagnoseSpec()
        self._device = _place(self._trials[0])
        self._meter = VariantMeter(self._trials[0], recipe, self._spec.examples)
        self._originals: dict[str, VariantLosses] = {}  # by engine
        self._directions: dict[int, Directions] = {}  # of full fine-tuning, by seed
        self._bases: dict[str, torch.Tensor] = {}  # the original's left singular vectors, by matrix

    def carry_out(self) -> list[Diagnosis]:
        """Diagnose one trial after another, and write what was found; returns the diagnoses in that order.

        What cannot be diagnosed says why, and keeps no other from it.
        """
        found = []
        for left in self._folder.path.glob(f"{SCRATCH}*"):  # by a diagnosis that was killed
            shutil.rmtree(left)
        with quiet(), tempfile.TemporaryDirectory(prefix=SCRATCH, dir=self._folder.path) as scratch:
            self._tell.phase("load")
            before = StoredWeights(Path(scratch) / "before.safetensors", _original(self._trials[0]))
            for trial in self._trials:
                try:
                    diagnosis, losses = self._diagnose(trial, before, Path(scratch))
                except TuneoffError as error:
                    diagnosis, losses = self._refused(trial, str(error))
                result = TrialResult.read(trial.trial.result)
                result.model_copy(update={"retained": _retained(losses)}).write(trial.trial.result)
                diagnosis.write(trial.trial.diagnosis)
                losses.write(trial.trial.losses)  # the last: by it a trial counts as diagnosed
                found.append(diagnosis)
        return found

    def _refused(self, trial: Finished, reason: str) -> tuple[Diagnosis, UpdateLosses]:
        diagnosis = Diagnosis(origin=trial.result.origin, arm=trial.name, seed=trial.seed, refused=reason)
        return diagnosis, self._losses(trial, [], reason, 0.0)

    def _losses(
        self, trial: Finished, variants: list[VariantLosses], refused: str | None, seconds: float
    ) -> UpdateLosses:
        return UpdateLosses(
            origin=trial.result.origin,
            arm=trial.name,
            seed=trial.seed,
            settings=self._spec.model_dump(mode="json"),
            validation_tokens=self._meter.validation_tokens,
            texts=self._meter.texts,
            variants=variants,
            refused=refused,
            seconds=seconds,
        )

    def _diagnose(self, trial: Finished, before: StoredWeights, scratch: Path) -> tuple[Diagnosis, UpdateLosses]:
        began = time.monotonic()
        self._tell.phase(f"losses of the original model, for {_named(trial)}")
        original = self._original_losses(trial)
        self._tell.phase(f"load {_named(trial)}")
        model, refused = _trained(trial)
        blank = Diagnosis(origin=trial.result.origin, arm=trial.name, seed=trial.seed)
        if refused is not None:
            self._tell.phase(f"losses of {_named(trial)}")
            variants = [original, self._meter.losses(trial, model.to(self._device), "scale", 1.0)]
            return blank.model_copy(update={"refused": refused}), self._finished(trial, variants, refused, began)
        with tempfile.TemporaryDirectory(dir=scratch) as own:
            after = StoredWeights(Path(own) / "after.safetensors", model)
            self._tell.phase(f"spectrum of {_named(trial)}")
            diagnosis, directions = diagnose(
                before,
                after,
                stored_dtype(trial.trial.model),
                blank,
                against=self._directions.get(trial.seed),
                bases=self._bases,
                cuts=self._spec.ranks,
                device="cpu" if self._device.type == "mps" else self._device,  # fp64 is not everywhere
                report=self._tell.progress,
            )
            if trial.spec.method == "full":
                self._directions.setdefault(trial.seed, directions)
            self._tell.phase(f"losses of {_named(trial)}")
            variants = [original, *self._variants(trial, model.to(self._device), before, after, directions)]
        return diagnosis, self._finished(trial, variants, None, began)

    def _finished(
        self, trial: Finished, variants: list[VariantLosses], refused: str | None, began: float
    ) -> UpdateLosses:
        return self._losses(trial, variants, refused or self._meter.missing, time.monotonic() - began)

    def _original_losses(self, trial: Finished) -> VariantLosses:
        """Of the model before training, computed once for each engine."""
        engine = trial.resolved.engines[trial.name].name
        if engine not in self._originals:
            model = _original(trial).to(self._device)
            self._originals[engine] = self._meter.losses(trial, model, "scale", 0.0)
        return self._originals[engine]

    def _variants(
        self, trial: Finished, model: Any, before: StoredWeights, after: StoredWeights, directions: Directions
    ) -> list[VariantLosses]:
        """The losses of the trained model, and of those between it and the original, whose weights `model` is given."""
        scales = [scale for scale in self._spec.scales if scale not in (0, 1)]
        cut = directions and self._meter.validation_tokens and trial.spec.method == "full"
        ranks = self._spec.ranks if cut else []
        total, found = 1 + len(scales) + len(ranks), [self._meter.losses(trial, model, "scale", 1.0)]
        self._tell.progress(1, total)
        for scale in scales:
            set_scaled(model, before, after, scale)
            found.append(self._meter.losses(trial, model, "scale", scale))
            self._tell.progress(len(found), total)
        for rank in ranks:
            set_cut(model, before, after, directions, rank)
            found.append(self._meter.losses(trial, model, "cut", float(rank)))
            self._tell.progress(len(found), total)
        return found


def _place(trial: Finished) -> torch.device:
    """Where the model in fp32 is held: on the accelerator where it has room for it, else in the machine's memory."""
    assert trial.result.parameters is not None
    needed = 4 * trial.result.parameters.total
    device = pick_device()
    if device.type == "cuda" and needed > FILLED * this_machine().capacity:
        device = torch.device("cpu")
    if device.type == "cpu" and needed > FILLED * host_memory():
        raise DoesNotFitError(
            f"the diagnosis holds the model in fp32, {bytes_text(needed)}, and this machine has "
            f"{bytes_text(host_memory())}: `tuneoff diagnose` on a larger one does it, `diagnose: off` leaves it out"
        )
    return device


def stored_dtype(folder: Path) -> torch.dtype:
    """The coarsest floating-point dtype of the weights in a folder of safetensors."""
    from safetensors import safe_open

    names = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
    found = []
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found += [names.get(file.get_slice(key).get_dtype()) for key in file.keys()]  # noqa: SIM118
    return max((dtype for dtype in found if dtype is not None), key=lambda dtype: torch.finfo(dtype).eps)


def _named(trial: Finished) -> str:
    return trial.name if len(trial.recipe.seeds) == 1 else f"{trial.name} at seed {trial.seed}"


def _retained(losses: UpdateLosses) -> Retained | None:
    """How the trained model's loss on the retained texts differs from the original's; None where it is not known."""
    if not losses.variants:
        return None
    before, after = (np.array(losses.variants[n].retained) for n in (0, 1))
    tokens = np.array(losses.texts.tokens, dtype=np.float64)
    return Retained(
        texts=len(tokens),
        before=float(before.sum() / tokens.sum()),
        after=float(after.sum() / tokens.sum()),
        difference=loss_change(before, after, tokens),
    )


def _original(trial: Finished) -> Any:
    resolved = trial.resolved
    return load_model(resolved.model_path, resolved.model_revision, resolved.model_class, torch.float32)


def _trained(trial: Finished) -> tuple[Any, str | None]:
    """The trained model in fp32 with its adapter merged; or as it is, and why its update is not one of its weights."""
    trial.require_whole()
    if trial.spec.method == "full":
        return load_model(str(trial.trial.model), None, trial.resolved.model_class, torch.float32), None
    model = load_adapter(_original(trial), trial.trial.model)
    if shared := shared_adapted_layers(model):
        return model, f"{shared[0]} is adapted and shares its weights with another layer"
    if not can_merge(model):
        return model, f"what {trial.spec.method} trains is no update of the model's weights"
    return model.merge_and_unload(), None
