"""Evidence of several seeds: it knows the spread between trainings. Made-up scores whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from tuneoff.score.evidence import Evidence, Figures, weigh
from tuneoff.score.resampling import Array
from tuneoff.score.spread import spread_of

ARMS = ["original", "full", "lora"]


def scores(deviation: float, *, lora: float = 0.40, seeds: int = 3, examples: int = 500, draw: int = 0) -> Array:
    """The original scores 0.20 at every seed; full fine-tuning 0.40, LoRA `lora`, their trainings `deviation` apart."""
    random = np.random.default_rng(draw)
    values = random.normal(0, 0.08, examples) + random.normal(0, 0.04, (3, seeds, examples))
    values += random.normal(0, 0.04, (3, 1, examples)) + np.array([0.20, 0.40, lora])[:, None, None]
    values[1:] += deviation * random.normal(size=(2, seeds, 1))  # the original is not trained
    values[0] = values[0, 0]
    return values


def evidence(values: Array, arms: list[str] = ARMS) -> Evidence:
    seeds = list(range(values.shape[1]))
    return weigh({"rouge1": Figures(values)}, arms, seeds, original=arms[0], baseline=arms[1], keep=0.97)


def test_one_seed_is_what_it_was() -> None:
    """Figures of the version before the spread between seeds was known, to the last digits."""
    found = evidence(scores(0.01, seeds=1, lora=0.397))
    difference, judged = found.differences[2], found.non_inferiority[0]
    assert judged.gained is not None
    assert [
        difference.difference.low, difference.difference.high, difference.p, judged.kept.low, judged.kept.high,
        judged.p, judged.gained.low, judged.gained.high, found.means["lora"]["rouge1"].low,
    ] == pytest.approx(BEFORE, rel=1e-12)  # fmt: skip
    assert found.resamples == 10_000


BEFORE: list[float] = [
    0.009689736770432838,
    0.024107189796036783,
    9.999000099990002e-05,
    1.0248440867516304,
    1.0628304210465644,
    9.999000099990002e-05,
    1.0490711575016451,
    1.1266400933924017,
    0.39608942538467057,
]


def test_the_spread_between_seeds_widens_intervals_and_raises_p() -> None:
    calm, wild = ([evidence(scores(d, lora=0.392, draw=draw)) for draw in range(20)] for d in (0.0, 0.01))

    def mean(found: list[Evidence], width: bool) -> float:
        differences = [e.differences[2] for e in found]
        return float(np.mean([d.difference.high - d.difference.low if width else d.p for d in differences]))

    assert mean(wild, width=True) > 2 * mean(calm, width=True)
    assert mean(wild, width=False) > 2 * mean(calm, width=False)
    shares = [[e.non_inferiority[0] for e in found] for found in (calm, wild)]
    before, after = (np.mean([(j.p, j.kept.high - j.kept.low, j.provable) for j in found], axis=0) for found in shares)
    assert (after > before).all()
    assert wild[0].resamples == 0


def test_three_seeds_a_point_apart_are_no_difference() -> None:
    """5 % of 200 is 10, and 20 is 3.2 standard deviations above. Randomizing examples alone found many more."""
    found = [evidence(scores(0.01, examples=200, draw=draw)) for draw in range(200)]
    assert sum(e.differences[2].p <= 0.05 for e in found) <= 20
    assert sum(not e.differences[1].difference.low <= 0.2 <= e.differences[1].difference.high for e in found) <= 20
    assert sum(not e.non_inferiority[0].kept.low <= 1 <= e.non_inferiority[0].kept.high for e in found) <= 20


def test_p_and_intervals_agree() -> None:
    for draw in range(30):
        found = evidence(scores(0.005, lora=0.39, examples=100, draw=draw))
        for d in found.differences:
            assert (d.p <= 0.05) == (not d.difference.low <= 0 <= d.difference.high)
        (judged,) = found.non_inferiority
        assert (judged.p <= 0.025) == (judged.kept.low >= 0.97)
        assert judged.kept.low < judged.kept.value < judged.kept.high


def test_arms_are_judged_alike() -> None:
    values = scores(0.01)
    there, back = evidence(values), evidence(values[::-1], ARMS[::-1])
    one, other = there.differences[1], back.differences[1]
    assert (one.arm, one.other) == (other.other, other.arm)
    assert (one.difference.low, one.p) == pytest.approx((-other.difference.high, other.p))
    assert one.detectable == pytest.approx(other.detectable)


def test_seeds_are_paired_between_arms() -> None:
    """What a seed does to both arms alike, such as the order of the examples, is no difference."""
    values = scores(0.0)
    shifted = values + np.array([-0.1, 0.0, 0.1])[:, None]
    for a, b in zip(evidence(values).differences, evidence(shifted).differences, strict=True):
        assert b.p == pytest.approx(a.p)


def test_an_arm_without_spread_between_seeds_adds_none() -> None:
    values = scores(0.0, examples=200)
    values[1:] = values[1:, :1]  # no arm is changed by a seed
    same = spread_of(values[1] - values[0])
    assert (same.training, same.interaction) == pytest.approx((0.0, 0.0))
    assert same.freedom(200) == pytest.approx(199)
    single = evidence(values[:, :1]).differences[0].difference
    several = evidence(values).differences[0].difference
    assert several.high - several.low == pytest.approx(single.high - single.low, rel=0.04)


def test_identical_arms_do_not_differ() -> None:
    found = evidence(np.tile(scores(0.01)[:1] + np.array([0.0, 0.01, 0.03])[:, None], (3, 1, 1)))
    assert {(d.difference.low, d.difference.high, d.p) for d in found.differences} == {(0.0, 0.0, 1.0)}
    (judged,) = found.non_inferiority
    assert judged.kept.low == pytest.approx(1.0, abs=1e-9)
    assert judged.gained is None


def test_more_examples_are_no_remedy_for_seeds() -> None:
    assert evidence(scores(0.02)).non_inferiority[0].examples_needed is None
    assert evidence(scores(0.0)).non_inferiority[0].examples_needed is not None


def test_the_parts_of_a_spread_are_those_it_was_made_of() -> None:
    random = np.random.default_rng(0)
    values = random.normal(0, 0.02, (40, 1)) + random.normal(0, 0.05, (1, 2000)) + random.normal(0, 0.03, (40, 2000))
    spread = spread_of(values)
    assert spread.training * 40 == pytest.approx(0.02**2, rel=0.5)
    assert spread.interaction * 40 == pytest.approx(0.03**2, rel=0.05)
    assert spread.example == pytest.approx(0.05**2, rel=0.1)
    assert spread.freedom(2000) == pytest.approx(39, rel=0.2)
