"""A run's folder → its comparison: one row an arm, what the scores show, and samples side by side."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from tuneoff.errors import RunFolderError
from tuneoff.folder import RunFolder
from tuneoff.recipe import Recipe, Trial, read_recipe, trials
from tuneoff.records import (
    Parameters,
    Prediction,
    Prepared,
    Record,
    TrialResult,
    Tuning,
    read_predictions,
)
from tuneoff.score.evidence import Evidence, weigh

SAMPLES = 3
ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
JUDGED = ("rouge1", "rouge2", "rougeL")  # rougeLsum is rougeL where there are no line breaks

Predictions = dict[str, dict[int, list[Prediction]]]  # by arm and seed


class ArmRow(Record):
    """One arm, averaged over its finished seeds: seconds, bytes, F-measures in 0…1. None where not measured."""

    arm: str
    method: str
    seeds: list[int]
    parameters: Parameters | None
    train_seconds: float | None
    total_seconds: float | None
    train_peak_bytes: float | None
    evaluate_peak_bytes: float | None
    rouge: dict[str, float] | None
    length_ratio: float | None
    empty_outputs: int
    truncated_outputs: int
    failures: list[str]


class Sample(Record):
    """One dialogue with its references and what each arm wrote (at its first finished seed)."""

    id: str
    input: str
    references: list[str]
    predictions: dict[str, str]


class Comparison(Record):
    """What a run has shown so far. `same_outputs` are groups of arms that wrote the same for every dialogue."""

    run: str
    examples: int | None
    references: int | None
    arms: list[ArmRow]
    evidence: Evidence | None
    same_outputs: list[list[str]]
    tuning: list[Tuning]
    samples: list[Sample]
    signature: str | None
    unfinished: list[str]
    warnings: list[str]


def compare(folder: RunFolder) -> Comparison:
    """Read the run and write its `comparison.json`. Raises RunFolderError where it is no run, or cannot be read."""
    folder.require()
    recipe = read_recipe(folder.recipe).recipe
    results = {trial: _result(folder, trial) for trial in trials(recipe)}
    done = [r for r in results.values() if r is not None and r.status == "done"]
    prepared = Prepared.read(folder.prepared) if folder.prepared.is_file() else None
    scored = prepared.data.get(recipe.evaluation.split) if prepared else None
    predictions = _predictions(folder, done)
    comparison = Comparison(
        run=str(folder.path),
        examples=scored.examples if scored else None,
        references=scored.references if scored else None,
        arms=[_row(recipe, name, [r for t, r in results.items() if r and t.arm == name]) for name in recipe.arms],
        evidence=_evidence(recipe, predictions),
        same_outputs=_same_outputs(predictions),
        tuning=[Tuning.read(path) for arm in recipe.arms if (path := folder.tuning(arm)).is_file()],
        samples=_samples(predictions),
        signature=_common_signature(done),
        unfinished=[str(trial) for trial, result in results.items() if result is None],
        warnings=prepared.warnings if prepared else [],
    )
    comparison.write(folder.comparison)
    return comparison


def _result(folder: RunFolder, trial: Trial) -> TrialResult | None:
    path = folder.trial(trial.arm, trial.seed).result
    try:
        return TrialResult.read(path) if path.is_file() else None
    except ValueError as error:
        raise RunFolderError(f"{path} is not the result of a trial ({str(error).splitlines()[0]})") from None


def _row(recipe: Recipe, name: str, results: Sequence[TrialResult]) -> ArmRow:
    done = [r for r in results if r.status == "done"]
    scores = [r.scores for r in done if r.scores is not None]
    return ArmRow(
        arm=name,
        method=recipe.arms[name].method,
        seeds=[r.seed for r in done],
        parameters=done[0].parameters if done else None,
        train_seconds=_mean([r.seconds["train"] for r in done if r.seconds]) if recipe.arms[name].trains else None,
        total_seconds=_mean([sum(r.seconds.values()) - r.seconds.get("measure", 0.0) for r in done if r.seconds]),
        train_peak_bytes=_mean([r.memory.train.peak for r in done if r.memory and r.memory.train]),
        evaluate_peak_bytes=_mean([r.memory.evaluate.peak for r in done if r.memory]),
        rouge={metric: fmean(getattr(s, metric).mean for s in scores) for metric in ROUGE} if scores else None,
        length_ratio=_mean([s.length_ratio for s in scores]),
        empty_outputs=sum(s.empty_outputs for s in scores),
        truncated_outputs=sum(s.truncated_outputs for s in scores),
        failures=[f"seed {r.seed}: {r.failure.kind}: {r.failure.message}" for r in results if r.failure],
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where there is nothing, or a part was not measured."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _predictions(folder: RunFolder, done: Sequence[TrialResult]) -> Predictions:
    found: Predictions = {}
    for result in done:
        path = folder.trial(result.arm, result.seed).predictions
        try:
            found.setdefault(result.arm, {})[result.seed] = read_predictions(path)
        except (OSError, ValueError) as error:
            raise RunFolderError(f"{path} cannot be read ({str(error).splitlines()[0]})") from None
    return found


def _evidence(recipe: Recipe, predictions: Predictions) -> Evidence | None:
    """What the scores of all finished arms show, at the seeds that all of them have."""
    trained = [set(predictions[arm]) for arm in predictions if recipe.arms[arm].trains]
    seeds = sorted(set.intersection(*trained)) if trained else [recipe.seeds[0]]
    if not predictions or not seeds:
        return None
    arms = [arm for arm in recipe.arms if arm in predictions]

    def found(arm: str, seed: int) -> list[Prediction]:  # what trains nothing is the same at every seed
        return predictions[arm].get(seed) or next(iter(predictions[arm].values()))

    by_method = {recipe.arms[arm].method: arm for arm in reversed(arms)}
    return weigh(
        {
            metric: np.array([[[fmean(getattr(p, metric)) for p in found(a, s)] for s in seeds] for a in arms])
            for metric in JUDGED
        },
        arms,
        seeds,
        original=by_method.get("none"),
        baseline=by_method.get("full"),
        keep=recipe.evaluation.keep,
    )


def _same_outputs(predictions: Predictions) -> list[list[str]]:
    groups: dict[tuple[str, ...], list[str]] = {}
    for arm, by_seed in predictions.items():
        groups.setdefault(tuple(p.prediction for p in next(iter(by_seed.values()))), []).append(arm)
    return [group for group in groups.values() if len(group) > 1]


def _samples(predictions: Predictions) -> list[Sample]:
    """Dialogues spread evenly over the test split, so that they are the same for every run on these data."""
    by_arm = {arm: next(iter(by_seed.values())) for arm, by_seed in predictions.items()}
    if not by_arm:
        return []
    first = next(iter(by_arm.values()))
    count = min(SAMPLES, len(first))
    chosen = [(2 * i + 1) * len(first) // (2 * count) for i in range(count)]
    return [
        Sample(
            id=first[i].id,
            input=first[i].input,
            references=first[i].references,
            predictions={arm: own[i].prediction for arm, own in by_arm.items()},
        )
        for i in chosen
    ]


def _common_signature(done: Sequence[TrialResult]) -> str | None:
    """What all results share of their signatures: everything but the seed. None where they differ."""
    signatures = {r.signature.rpartition("|seed:")[0] for r in done if r.signature}
    return signatures.pop() if len(signatures) == 1 else None
