"""Figures of examples, averaged over a trial."""

from __future__ import annotations

import pytest

from tuneoff.records import Prediction, Scores
from tuneoff.score.metrics import find_metrics
from tuneoff.score.summary import length_ratio, scored, summarise

METRICS = find_metrics(["rouge1", "exact_match"])


def predictions(*written: tuple[str, list[str], bool]) -> list[Prediction]:
    scorers = {metric.name: metric.prepare([references for _, references, _ in written]) for metric in METRICS}
    return [
        scored(Prediction(id="0", input="d", references=r, prediction=text, truncated=cut, scores={}), scorers)
        for text, r, cut in written
    ]


def test_three_rules_for_several_references() -> None:
    scores = summarise(predictions(("a b", ["a b", "c d"], False), ("x", ["y", "x"], False)), METRICS)
    rouge1 = scores.metrics["rouge1"]
    assert (rouge1.mean, rouge1.best, rouge1.first) == (0.5, 1.0, 0.5)
    assert [metric.of_trial(scores.metrics[metric.name]) for metric in METRICS] == [0.5, 1.0]
    assert scores.examples == 2


def test_empty_and_cut_off_outputs_are_counted_and_lengths_compared() -> None:
    rows = predictions(("", ["a b", "a b c d"], False), ("a b c d e f", ["a b c"], True))
    scores = summarise(rows, METRICS)
    assert (scores.empty_outputs, scores.truncated_outputs) == (1, 1)
    assert length_ratio(rows) == pytest.approx(6 / (3 + 3))
    assert scores.metrics["rouge1"].mean == pytest.approx((0 + 2 * 3 / 9) / 2)


def test_lengths_of_texts_without_spaces() -> None:
    assert length_ratio(predictions(("他们见面", ["他们星期五见面。"], False))) == pytest.approx(4 / 7)


def test_metrics_stand_beside_the_counts_in_json_and_older_files_are_read() -> None:
    rows = predictions(("a b", ["a b"], False))
    scores = summarise(rows, METRICS)
    values = scores.model_dump(mode="json")
    assert values["rouge1"] == {"mean": 1.0, "best": 1.0, "first": 1.0} and values["examples"] == 1
    assert Scores.model_validate_json(scores.model_dump_json()) == scores
    older = {**rows[0].model_dump(exclude={"scores"}), **rows[0].scores}
    assert Prediction.model_validate(older) == rows[0]
