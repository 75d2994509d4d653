"""Predictions of finished trials, scored again or by other metrics: no model is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tuneoff.errors import RunFolderError
from tuneoff.folder import RunFolder, TrialFolder, write_lines
from tuneoff.progress import ProgressListener
from tuneoff.recipe import recipe_of
from tuneoff.records import Prediction, Resolved, TrialResult
from tuneoff.report.arms import read_arms
from tuneoff.score.metrics import Scorer, find_metrics, metrics_signature
from tuneoff.score.summary import scored, summarise
from tuneoff.signature import signature, signature_fields

AFTER_METRICS = "refs"  # the first field of a trial's signature that is of no metric


def score_run(folder: RunFolder, names: Sequence[str], tell: ProgressListener) -> None:
    """Score every finished trial by the metrics `names`; where none is named, by those of the recipe that score texts.

    The figures go into `predictions.jsonl` and `result.json` of each trial, beside those of other metrics, once all
    trials are scored. Raises MetricError, RunFolderError where the run is no run, at work or without a finished trial,
    and WriteError.
    """
    recipe = recipe_of(folder)
    metrics = find_metrics(names)  # modules of those named here are looked for in the working directory
    if not names:
        metrics = [
            metric for metric in find_metrics(recipe.evaluation.metrics, recipe.evaluation.modules) if metric.by_text
        ]
    with folder.lock():
        resolved = Resolved.read(folder.resolved) if folder.resolved.is_file() else None
        done = [
            (arm.folders[seed], result, arm.predictions[seed])
            for arm in read_arms(folder, recipe, resolved, [])
            for seed, result in arm.done.items()
        ]
        if not done:
            raise RunFolderError(f"{folder.path} has no finished trial: there is nothing to score")
        found: list[tuple[TrialFolder, TrialResult, list[Prediction]]] = []
        for place, (trial, result, predictions) in enumerate(done):
            tell.phase(f"score {result.arm}")
            scorers = {metric.name: metric.prepare([p.references for p in predictions]) for metric in metrics}
            again = [scored(prediction, scorers) for prediction in predictions]
            found.append((trial, _with_scores(result, again, scorers), again))
            tell.progress(place + 1, len(done))
        for trial, _, again in found:
            write_lines(trial.predictions, (p.model_dump() for p in again))
        for trial, result, _ in found:
            result.write(trial.result)


def _with_scores(result: TrialResult, predictions: list[Prediction], scorers: Mapping[str, Scorer]) -> TrialResult:
    """`result` with the scores of `predictions`, by its own metrics and those of `scorers`."""
    assert result.scores is not None
    kept = [name for name in result.scores.metrics if name not in scorers]
    order = [*result.scores.metrics, *(name for name in scorers if name not in result.scores.metrics)]
    assert all(name in p.scores for name in kept for p in predictions)
    return result.model_copy(
        update={"scores": summarise(predictions, find_metrics(order)), "signature": _signed(result.signature, scorers)}
    )


def _signed(old: str | None, scorers: Mapping[str, Scorer]) -> str:
    """The signature with the fields of these metrics before those that every metric shares."""
    fields = signature_fields(old or "")
    at = list(fields).index(AFTER_METRICS) if AFTER_METRICS in fields else 0
    own, shared = dict(list(fields.items())[:at]), dict(list(fields.items())[at:])
    return signature({**own, **metrics_signature(scorers.values()), **shared})
