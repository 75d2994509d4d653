"""Evidence on made-up scores whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from tuneoff.score.evidence import Evidence, Figures, weigh

ARMS = ["original", "full", "lora"]


def made(lora: float, examples: int = 500, seeds: int = 1, noise: float = 0.05) -> Evidence:
    """Full fine-tuning scores 0.40, the original 0.20, LoRA `lora`; examples differ much more than arms do."""
    random = np.random.default_rng(0)
    hard = random.normal(0, 0.08, examples)
    levels = np.array([0.20, 0.40, lora])[:, None, None]
    scores = levels + hard + random.normal(0, noise, (3, seeds, examples))
    return weigh(
        {"rouge1": Figures(scores)}, ARMS, list(range(seeds)), original="original", baseline="full", keep=0.97
    )  # fmt: skip


def test_differences_are_paired_signed_and_of_all_pairs() -> None:
    evidence = made(0.36)
    assert [(d.arm, d.other) for d in evidence.differences] == [
        ("full", "original"), ("lora", "original"), ("lora", "full"),
    ]  # fmt: skip
    worse = evidence.differences[2]
    assert worse.difference.low < -0.04 < worse.difference.high < 0
    assert worse.p == pytest.approx(1 / 10_001)
    assert worse.p_holm >= worse.p
    # Paired: the interval is that of the noise (0.05 · √2 / √500), not of the examples.
    width = worse.difference.high - worse.difference.low
    assert width == pytest.approx(2 * 1.96 * 0.05 * np.sqrt(2 / 500), rel=0.1)
    # Two-sided at 5 % over 3 pairs: 2.394, and 0.842 for 80 % of cases.
    assert worse.detectable == pytest.approx(3.236 * 0.05 * np.sqrt(2 / 500), rel=0.1)


@pytest.mark.parametrize(("lora", "holds"), [(0.40, True), (0.393, False), (0.37, False)])
def test_non_inferiority_is_shown_only_well_above_the_margin(lora: float, holds: bool) -> None:
    (judged,) = made(lora).non_inferiority
    assert (judged.arm, judged.baseline, judged.holds) == ("lora", "full", holds)
    assert judged.kept.low < lora / 0.4 < judged.kept.high
    assert judged.gained is not None
    assert judged.gained.low < (lora - 0.2) / 0.2 < judged.gained.high
    assert judged.margin == pytest.approx(0.012, rel=0.03)


def test_few_examples_show_little_and_say_how_many_would_do() -> None:
    (judged,) = made(0.40, examples=60).non_inferiority
    assert not judged.holds
    assert judged.provable > judged.margin
    assert judged.examples_needed is not None
    assert 100 < judged.examples_needed < 400


def test_the_gain_is_no_share_of_nothing() -> None:
    scores = np.random.default_rng(1).normal(0.3, 0.05, (3, 1, 100))
    (judged,) = weigh(
        {"rouge1": Figures(scores)}, ARMS, [0], original="original", baseline="full", keep=0.97
    ).non_inferiority
    assert judged.gained is None


def test_the_gain_is_a_number_where_some_samples_draw_none_of_it() -> None:
    scores = np.zeros((3, 1, 5))
    scores[1:, 0, :3] = [[0.2, 0.2, 0.2], [0.1, 0.1, 0.1]]
    (judged,) = weigh(
        {"rouge1": Figures(scores)}, ARMS, [0], original="original", baseline="full", keep=0.97
    ).non_inferiority
    assert judged.gained is not None
    assert judged.gained.low == judged.gained.value == judged.gained.high == pytest.approx(0.5)


def test_identical_arms_do_not_differ() -> None:
    scores = np.tile(np.random.default_rng(2).random((1, 1, 80)), (3, 1, 1))
    evidence = weigh({"rouge1": Figures(scores)}, ARMS, [0], original="original", baseline="full", keep=0.97)
    assert {(d.difference.value, d.difference.low, d.difference.high, d.p) for d in evidence.differences} == {
        (0.0, 0.0, 0.0, 1.0)
    }
    assert evidence.non_inferiority[0].kept.low == evidence.non_inferiority[0].kept.high == 1.0


def test_a_run_without_baseline_or_with_one_arm_has_no_verdict_to_give() -> None:
    scores = np.random.default_rng(3).random((2, 1, 20))
    assert (
        weigh({"rouge1": Figures(scores)}, ["a", "b"], [0], original=None, baseline=None, keep=0.97).non_inferiority
        == []
    )
    assert weigh({"rouge1": Figures(scores[:1])}, ["a"], [0], original=None, baseline="a", keep=0.97).differences == []


@pytest.mark.parametrize(("loss", "holds", "misses"), [(1.50, True, False), (1.535, False, False), (1.62, False, True)])
@pytest.mark.parametrize("margin", [None, 0.0464])  # 1.50 / 0.97 - 1.50
def test_of_losses_less_is_better(loss: float, holds: bool, misses: bool, margin: float | None) -> None:
    random = np.random.default_rng(0)
    levels = np.array([3.0, 1.5, loss])[:, None, None]
    values = levels + random.normal(0, 0.5, 500) + random.normal(0, 0.15, (3, 1, 500))
    keep, margins = (0.97, None) if margin is None else (None, {"loss": margin})
    figures = Figures(values - values.mean(2, keepdims=True) + levels, higher=False)
    evidence = weigh({"loss": figures}, ARMS, [0], original="original", baseline="full", keep=keep, margins=margins)
    (judged,) = evidence.non_inferiority
    assert (judged.holds, judged.misses) == (holds, misses)
    assert judged.margin == pytest.approx(0.0464, abs=1e-4)
    assert judged.kept.value == pytest.approx(loss / 1.5)
    assert judged.gained is not None and judged.gained.value == pytest.approx((3.0 - loss) / 1.5)
    assert judged.gained.low < judged.gained.value < judged.gained.high


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_margin_in_points_is_the_share_s_where_both_are_the_same(seeds: int) -> None:
    random = np.random.default_rng(1)
    levels = np.array([0.2, 0.4, 0.393])[:, None, None]
    values = levels + random.normal(0, 0.08, 500) + random.normal(0, 0.05, (3, seeds, 500))
    both = [
        weigh({"m": Figures(values)}, ARMS, list(range(seeds)), original=None, baseline="full", keep=keep, margins=own)
        for keep, own in ((0.97, None), (None, {"m": 0.03 * float(values[1].mean())}))
    ]
    share, points = (next(j for j in evidence.non_inferiority if j.arm == "lora") for evidence in both)
    assert points.margin == pytest.approx(share.margin)
    assert points.p == pytest.approx(share.p, rel=0.5) and points.kept == share.kept
