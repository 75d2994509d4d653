"""BLEU and chrF, whose figures are of all texts together, beside sacrebleu's."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import _paired_bs_test

from tests.conftest import dialogue
from tuneoff.score.evidence import Figures, weigh
from tuneoff.score.metrics import find_metric
from tuneoff.score.metrics.base import Array

THEIRS = {"bleu": BLEU, "chrf": CHRF}
text = st.lists(st.sampled_from(["the cat", "sat", "on", "the mat.", "a dog", "bit", "naïve", "é"]), max_size=9).map(
    " ".join
)


def statistics(name: str, texts: list[str], references: list[list[str]]) -> Array:
    scorer = find_metric(name).prepare(references)
    assert scorer.score is not None
    return np.array([scorer.score(one, own) for one, own in zip(texts, references, strict=True)])


@pytest.mark.parametrize("name", THEIRS)
@given(st.lists(st.tuples(text, text.filter(bool), text.filter(bool)), min_size=1, max_size=6))
def test_a_corpus_is_sacrebleu_s(name: str, rows: list[tuple[str, str, str]]) -> None:
    texts, first, second = (list(column) for column in zip(*rows, strict=True))
    theirs = THEIRS[name]().corpus_score(texts, [first, second]).score
    own = statistics(name, texts, [[a, b] for a, b in zip(first, second, strict=True)])
    metric = find_metric(name)
    assert 100 * metric.of_examples(own.tolist()) == pytest.approx(theirs, abs=1e-6)
    assert metric.values(own.tolist()).mean() == pytest.approx(theirs / 100, abs=1e-9)


def test_by_hand() -> None:
    """Of "the cat sat" and "the cat lay": 2 of 3 words, 1 of 2 pairs, half of one of 1, and no run of four."""
    assert find_metric("bleu").of_examples(statistics("bleu", ["the cat sat"], [["the cat lay"]]).tolist()) == 0
    longer = statistics("bleu", ["the cat sat down now"], [["the cat sat up then"]]).tolist()
    expected = (3 / 5 * 2 / 4 * 1 / 3 * (1 / 2) / 2) ** 0.25
    assert find_metric("bleu").of_examples(longer) == pytest.approx(expected)


def test_texts_without_spaces_are_cut_into_characters() -> None:
    scorer = find_metric("bleu").prepare([["他们星期五见面。"]])
    assert scorer.signature["bleu"].endswith("+char+exp")
    assert find_metric("bleu").prepare([["At six."]]).signature["bleu"].endswith("+13a+exp")
    assert scorer.score is not None
    assert find_metric("bleu").of_examples([scorer.score("他们星期五见面。", ["他们星期五见面。"])]) == pytest.approx(1)


def worse(sentence: str, seed: int, share: float) -> str:
    chance = random.Random(seed)
    return " ".join(word if chance.random() > share else "so" for word in sentence.split())


@pytest.mark.parametrize("name", THEIRS)
def test_intervals_and_p_values_are_those_of_sacrebleu_s_paired_bootstrap(name: str) -> None:
    references = [dialogue(n)[1] for n in range(150)]
    good = [worse(reference, n, 0.3) for n, reference in enumerate(references)]
    bad = [worse(reference, n + 1000, 0.34) for n, reference in enumerate(references)]
    stats = [statistics(name, texts, [[r] for r in references]) for texts in (bad, good)]
    metric = find_metric(name)
    figures = Figures(
        np.array([[metric.values(own.tolist())] for own in stats]), statistics=np.array(stats)[:, None],
        corpus=metric.corpus,
    )  # fmt: skip
    evidence = weigh({name: figures}, ["bad", "good"], [0], original=None, baseline=None, keep=0.9)
    other: Any = THEIRS[name](references=[references])
    bad_stats = other._extract_corpus_statistics(bad, None)
    baseline = {name: (bad_stats, other._aggregate_and_compute(bad_stats))}
    theirs = _paired_bs_test(baseline, "good", good, None, {name: other}, n_samples=4000, seed=1)[1][name]
    mean = evidence.means["good"][name]
    assert 100 * mean.value == pytest.approx(theirs.score, abs=1e-6)
    assert 100 * (mean.high - mean.low) / 2 == pytest.approx(theirs.ci, rel=0.06)
    (difference,) = evidence.differences
    assert difference.p == pytest.approx(theirs.p_value, abs=0.02)
    by_jackknife = weigh({name: Figures(figures.values)}, ["bad", "good"], [0], original=None, baseline=None, keep=0.9)
    low, high = by_jackknife.differences[0].difference.low, by_jackknife.differences[0].difference.high
    assert high - low == pytest.approx(difference.difference.high - difference.difference.low, rel=0.06)
