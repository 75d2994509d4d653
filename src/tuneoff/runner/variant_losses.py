"""Losses of one model on what a diagnosis measures on: validation rows of the run, and texts to be retained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tuneoff.data.batches import collator_for
from tuneoff.data.retained import RetainedRows, retained_rows, retained_texts
from tuneoff.data.tokens import IGNORED, load_tokens
from tuneoff.decode.generate import generate
from tuneoff.decode.likelihood import AT_ONCE, Rows, row_losses
from tuneoff.errors import MetricError
from tuneoff.model.engines import Engine, engine_for
from tuneoff.recipe import Recipe
from tuneoff.records import Prediction, RetainedMark, VariantLosses
from tuneoff.runner.finished import Finished
from tuneoff.score.metrics import find_metrics
from tuneoff.score.summary import scored, summarise


class VariantMeter:
    """Measures models on the first `examples` rows of a run's validation split, and on its retained texts.

    Raises DataError where the recipe's retained texts cannot be read.

    Attributes:
        missing: Why there are no validation rows where there should be some.
    """

    def __init__(self, trial: Finished, recipe: Recipe, examples: int) -> None:
        source = recipe.evaluation.retain
        self._texts: RetainedRows = retained_rows(retained_texts(source), source, trial.tokenizer, trial.tokenization)
        self._validation, self.missing = _validation_rows(trial, recipe, examples)

    @property
    def texts(self) -> RetainedMark:
        return self._texts.mark

    @property
    def validation_tokens(self) -> list[int]:
        """The target tokens of each validation row."""
        return [_targets(row) for row in self._validation]

    def losses(self, trial: Finished, model: Any, kind: Literal["scale", "cut"], value: float) -> VariantLosses:
        """The losses of a model in fp32, by the engine of the trial. Raises MetricError where one is no number."""
        engine = engine_for(trial.resolved.engines[trial.name].name, model, bf16=False)
        collate = collator_for(model, trial.tokenizer, trial.resolved.model_class)
        at_once = min(AT_ONCE, trial.recipe.evaluation.batch_size)
        retained = self._texts.rows if kind == "scale" else []
        nats = row_losses(engine, collate, [*self._validation, *retained], at_once)
        if not all(map(math.isfinite, nats)):
            raise MetricError(f"a loss of its model is no number (update: {kind} {value:g})")
        parts = nats[: len(self._validation)], nats[len(self._validation) :]
        scores = self._scores(trial, engine) if kind == "scale" and value in (0, 1) else {}
        return VariantLosses(kind=kind, value=value, validation=parts[0], retained=parts[1], scores=scores)

    def _scores(self, trial: Finished, engine: Engine) -> dict[str, float]:
        """What the engine's model scores on the retained inputs that have a target, by the run's metrics of texts."""
        asked, evaluation = self._texts.asked, trial.recipe.evaluation
        metrics = [metric for metric in find_metrics(evaluation.metrics, evaluation.modules) if metric.by_text]
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
