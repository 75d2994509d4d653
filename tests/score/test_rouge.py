from __future__ import annotations

import pytest

from tuneoff.records import Prediction
from tuneoff.score.rouge import rouge
from tuneoff.score.summary import length_ratio, summarise


def prediction(text: str, references: list[str], truncated: bool = False) -> Prediction:
    return Prediction(
        id="0", input="d", references=references, prediction=text, truncated=truncated, **rouge(text, references)
    )


def test_known_values() -> None:
    """By hand: 3 of 4 unigrams, 1 of 3 bigrams, a common subsequence of 3 of 4."""
    scores = rouge("the cat sat down", ["the cat lay down"])
    assert scores["rouge1"] == [pytest.approx(0.75)]
    assert scores["rouge2"] == [pytest.approx(1 / 3)]
    assert scores["rougeL"] == scores["rougeLsum"] == [pytest.approx(0.75)]


def test_the_stemmer_is_on_and_other_scripts_are_not_seen() -> None:
    assert rouge("running dogs", ["run dog"])["rouge1"] == [1.0]
    assert rouge("собака", ["собака"])["rouge1"] == [0.0]


def test_lsum_differs_from_l_only_across_lines() -> None:
    scores = rouge("b b b\na a a", ["a a a\nb b b"])
    assert scores["rougeLsum"] == [1.0]
    assert scores["rougeL"] == [pytest.approx(0.5)]


def test_three_rules_for_several_references() -> None:
    rows = [prediction("a b", ["a b", "c d"]), prediction("x", ["y", "x"])]
    scores = summarise(rows)
    assert (scores.rouge1.mean, scores.rouge1.best, scores.rouge1.first) == (0.5, 1.0, 0.5)
    assert scores.examples == 2


def test_empty_and_cut_off_outputs_are_counted_and_lengths_compared() -> None:
    rows = [prediction("", ["a b", "a b c d"]), prediction("a b c d e f", ["a b c"], truncated=True)]
    scores = summarise(rows)
    assert (scores.empty_outputs, scores.truncated_outputs) == (1, 1)
    assert length_ratio(rows) == pytest.approx(6 / (3 + 3))
    assert scores.rouge1.mean == pytest.approx((0 + 2 * 3 / 9) / 2)
