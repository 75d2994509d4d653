"""The last part of a run: what training did to the weights of every arm, and what the arm has forgotten."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from tuneoff.data.batches import collator_for
from tuneoff.data.retained import RetainedRows, retained_rows, retained_texts
from tuneoff.data.tokens import IGNORED, load_tokens
from tuneoff.decode.generate import generate
from tuneoff.decode.likelihood import AT_ONCE, Rows, row_losses
from tuneoff.diagnose.diagnosis import diagnose
from tuneoff.diagnose.spectrum import RANKS, STRONGEST
from tuneoff.diagnose.variants import set_cut, set_scaled
from tuneoff.errors import MetricError, RunFolderError, TuneoffError
from tuneoff.folder import RunFolder
from tuneoff.model.base import load_model
from tuneoff.model.device import pick_device
from tuneoff.model.engines import Engine, engine_for
from tuneoff.model.merge import can_merge, shared_adapted_layers
from tuneoff.model.quiet import quiet
from tuneoff.model.saved import load_adapter
from tuneoff.progress import ProgressListener
from tuneoff.recipe import Recipe, recipe_of
from tuneoff.recipe.diagnose import DiagnoseSpec
from tuneoff.records import (
    Diagnosis,
    Prediction,
    Retained,
    TrialResult,
    UpdateLosses,
    VariantLosses,
)
from tuneoff.runner.diagnosed import finished_trials
from tuneoff.runner.finished import Finished
from tuneoff.score.metrics import find_metrics
from tuneoff.score.summary import scored, summarise
from tuneoff.score.update import loss_change

Directions = Mapping[str, torch.Tensor]


def diagnose_run(folder: RunFolder, tell: ProgressListener) -> list[Diagnosis]:
    """Diagnose every trial that has trained and is done: `diagnosis.json`, `losses.json` and `retained` of its result.

    Raises RunFolderError where the run is no run, at work or without such a trial, ModelError or DamagedFileError
    where a model is not what it was, DataError where the recipe's retained texts cannot be read, and WriteError.
    """
    with folder.lock():
        return RunDiagnosis(folder, tell).carry_out()


class RunDiagnosis:
    """Diagnoses the finished trials of a run, one after another.

    Arms that train all weights go first: the others' updates are compared with that of the first of them at the same
    seed. Nothing is trained. Raises as `diagnose_run`.
    """

    def __init__(self, folder: RunFolder, tell: ProgressListener) -> None:
        recipe = recipe_of(folder)
        self._tell = tell
        self._trials = finished_trials(folder, recipe)
        if not self._trials:
            raise RunFolderError(f"{folder.path} has no finished trial that trained: there is nothing to diagnose")
        self._trials.sort(key=lambda trial: trial.spec.method != "full")
        self._spec = recipe.diagnose or DiagnoseSpec()
        self._device = pick_device()
        first = self._trials[0]
        self._texts = _texts(first, recipe)
        self._validation, self._missing = _validation_rows(first, recipe, self._spec.examples)
        self._before: Any = None  # the original model in fp32
        self._originals: dict[str, VariantLosses] = {}  # by engine
        self._directions: dict[int, Directions] = {}  # of full fine-tuning, by seed

    def carry_out(self) -> list[Diagnosis]:
        """Diagnose one trial after another, and write what was found; returns the diagnoses in that order.

        What cannot be diagnosed says why, and keeps no other from it.
        """
        found = []
        with quiet():
            self._tell.phase("load")
            self._before = _original(self._trials[0])
            for trial in self._trials:
                try:
                    diagnosis, losses = self._diagnose(trial)
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
            validation_tokens=[_targets(row) for row in self._validation],
            texts=self._texts.mark,
            variants=variants,
            refused=refused,
            seconds=seconds,
        )

    def _diagnose(self, trial: Finished) -> tuple[Diagnosis, UpdateLosses]:
        began = time.monotonic()
        self._tell.phase(f"load {_named(trial)}")
        after, refused = _trained(trial)
        blank = Diagnosis(origin=trial.result.origin, arm=trial.name, seed=trial.seed)
        directions: Directions = {}
        if refused is not None:
            diagnosis = blank.model_copy(update={"refused": refused})
        else:
            self._tell.phase(f"spectrum of {_named(trial)}")
            diagnosis, directions = diagnose(
                self._before,
                after,
                stored_dtype(trial.trial.model),
                blank,
                against=self._directions.get(trial.seed),
                ranks=sorted({*RANKS, *self._spec.ranks}),
                keep=max([STRONGEST, *self._spec.ranks]),
                device="cpu" if self._device.type == "mps" else self._device,  # fp64 is not everywhere
                report=self._tell.progress,
            )
            if trial.spec.method == "full":
                self._directions.setdefault(trial.seed, directions)
        self._tell.phase(f"losses of {_named(trial)}")
        variants = self._variants(trial, after, directions, refused)
        losses = self._losses(trial, variants, refused or self._missing, time.monotonic() - began)
        return diagnosis, losses

    def _variants(
        self, trial: Finished, after: Any, directions: Directions, refused: str | None
    ) -> list[VariantLosses]:
        """The losses of the original model, of the trained one, and where its update is known, of what is between."""
        engine = trial.resolved.engines[trial.name].name
        scales = [0.0, 1.0, *(scale for scale in self._spec.scales if scale not in (0, 1))]
        ranks = self._spec.ranks if directions and self._validation and trial.spec.method == "full" else []
        if refused is not None:
            scales, ranks = [0.0, 1.0], []
        total, found = len(scales) + len(ranks), []
        subject = copy.deepcopy(self._before).to(self._device)  # in fp32: bf16 would round most of an update away

        def measure(model: Any, kind: Literal["scale", "cut"], value: float) -> VariantLosses:
            computed = engine_for(engine, model, bf16=False)
            collate = collator_for(model, trial.tokenizer, trial.resolved.model_class)
            at_once = min(AT_ONCE, trial.recipe.evaluation.batch_size)
            retained = self._texts.rows if kind == "scale" else []
            nats = row_losses(computed, collate, [*self._validation, *retained], at_once)
            if not all(map(math.isfinite, nats)):
                raise MetricError(f"a loss of its model is no number (update: {kind} {value:g})")
            parts = nats[: len(self._validation)], nats[len(self._validation) :]
            scores = self._scores(trial, computed) if kind == "scale" and value in (0, 1) else {}
            return VariantLosses(kind=kind, value=value, validation=parts[0], retained=parts[1], scores=scores)

        for scale in scales:
            if scale == 0 and engine in self._originals:
                found.append(self._originals[engine])
            elif scale == 1 and refused is not None:
                found.append(measure(after.to(self._device), "scale", 1.0))
            else:
                if scale != 0:
                    set_scaled(subject, self._before, after, scale)
                found.append(measure(subject, "scale", scale))
            self._originals.setdefault(engine, found[0])
            self._tell.progress(len(found), total)
        for rank in ranks:
            set_cut(subject, self._before, after, directions, rank)
            found.append(measure(subject, "cut", float(rank)))
            self._tell.progress(len(found), total)
        return found

    def _scores(self, trial: Finished, engine: Engine) -> dict[str, float]:
        """What the engine's model scores on the retained inputs that have a target, by the run's metrics of texts."""
        asked, evaluation = self._texts.asked, trial.recipe.evaluation
        metrics = [metric for metric in find_metrics(evaluation.metrics) if metric.by_text]
        if not asked or not metrics:
            return {}
        outputs = generate(
            engine,
            trial.tokenizer,
            [prompt for prompt, _ in asked],
            max_new_tokens=evaluation.max_new_tokens,
            search=evaluation.search,
            batch_size=evaluation.batch_size,
            report=lambda *_: None,
            chat=trial.resolved.chat,
        )
        references = [[target] for _, target in asked]
        scorers = {metric.name: metric.prepare(references) for metric in metrics}
        written = [
            Prediction(id="", input="", references=own, prediction=output.text, truncated=output.truncated, scores={})
            for own, output in zip(references, outputs, strict=True)
        ]
        found = summarise([scored(one, scorers) for one in written], metrics)
        return {metric.name: metric.of_trial(found.metrics[metric.name]) for metric in metrics}


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


def _texts(trial: Finished, recipe: Recipe) -> RetainedRows:
    source = recipe.evaluation.retain
    return retained_rows(retained_texts(source), source, trial.tokenizer, trial.tokenization)


def _validation_rows(trial: Finished, recipe: Recipe, most: int) -> tuple[Rows, str | None]:
    """The first rows of the validation split, and why there are none where there should be some.

    There are none of a split that is scored.
    """
    folder = trial.resolved.tokens.get("validation") if recipe.evaluation.split != "validation" else None
    if folder is None:
        return [], None
    if not Path(folder).is_dir():
        return [], "the tokens of its validation split are not in the cache of this machine"
    rows = load_tokens(folder)
    return [{name: list(rows[n][name]) for name in ("input_ids", "labels")} for n in range(min(most, len(rows)))], None


def _targets(row: Mapping[str, Sequence[int]]) -> int:
    return sum(label != IGNORED for label in row["labels"])


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
