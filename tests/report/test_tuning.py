"""Searches as the report tells them: the optimum, its interval, and the ratio to full fine-tuning's."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from tests.report.made import made_run
from tuneoff.folder import RunFolder, write_lines
from tuneoff.records import Try, Tuning
from tuneoff.report.comparison import Comparison, compare
from tuneoff.report.table import notes
from tuneoff.report.tuning import optima_texts, tuning_text

RATES = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]


def search(
    folder: RunFolder, arm: str, best: float, rates: list[float] = RATES, rung: int | None = None, steps: int = 8
) -> list[Try]:
    """The tries of a search on 40 examples whose loss is a parabola in log10 of the rate, written to their folders."""
    rng = np.random.default_rng(0)
    levels = rng.normal(2, 0.3, 40)
    tries = []
    for rate in rates:
        means = (
            levels
            + 0.2 * math.log10(rate / best) ** 2
            + np.random.default_rng([int(-math.log10(rate)), 1]).normal(0, 0.05, 40)
        )
        place = folder.rate(arm, rate, rung)
        write_lines(place.validation, ({"nats": 10 * mean, "tokens": 10} for mean in means.tolist()))
        loss = float(means.mean())
        tries.append(Try(learning_rate=rate, rung=rung, steps=steps, validation_loss=loss, seconds=2.0))
    return tries


def recorded(folder: RunFolder, arm: str, tries: list[Try], chosen: float) -> Tuning:
    tuning = Tuning(arm=arm, tries=tries, chosen=chosen)
    tuning.write(folder.tuning(arm))
    return tuning


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = made_run(tmp_path / "run", dialogues=12)
    recorded(folder, "full", search(folder, "full", 2e-4), 1e-4)
    recorded(folder, "lora", search(folder, "lora", 2e-3), 1e-3)
    return folder


def test_both_optima_and_their_ratio_are_in_the_comparison_and_told(run: RunFolder) -> None:
    comparison, _ = compare(run)
    assert Comparison.model_validate_json(comparison.model_dump_json()) == comparison
    full, lora = comparison.optima.arms
    assert (full.arm, full.rates, full.examples, full.steps, full.chosen) == ("full", 5, 40, 8, 1e-4)
    for one, best in ((full, 2e-4), (lora, 2e-3)):
        assert one.low is not None and one.high is not None
        assert one.low < one.rate < one.high and one.rate == pytest.approx(best, rel=0.3)
    (ratio,) = comparison.optima.ratios
    assert (ratio.arm, ratio.baseline) == ("lora", "full") and ratio.value == lora.rate / full.rate
    told = notes(comparison)
    (line,) = [x for x in told if x.startswith("lora: the best rate after 8 steps is 0.00")]
    assert "on 40 validation examples; loss in nats per token predicted against that at 0.001: +0.0" in line
    assert re.search(r"\+0\.0\d+ at half of it, -0\.0\d+ at its double$", line)
    (line,) = [x for x in told if x.startswith("lora ÷ full: the best rate is ")]
    assert "times as high, [" in line
    assert sum("best rates: of a parabola" in x for x in told) == 1


def test_at_an_edge_the_bound_is_told(run: RunFolder) -> None:
    recorded(run, "lora", search(run, "lora", 10.0), 1e-1)
    comparison, _ = compare(run)
    assert comparison.optima.ratios == []
    assert [x for x in optima_texts(comparison.optima) if x.startswith("lora")] == [
        "lora: the best rate after 8 steps is at least 0.1, the highest of 5 with a finite loss: that is a bound, "
        "without an interval. Try higher rates"
    ]


def test_beside_a_rate_that_diverged_the_neighbours_are_told(run: RunFolder) -> None:
    tries = search(run, "lora", 2e-3)
    path = run.rate("lora", 1e-2).validation
    write_lines(path, ({"nats": 200.0, "tokens": 10} for _ in range(40)))
    recorded(run, "lora", tries, 1e-3)
    assert [x for x in optima_texts(compare(run)[0].optima) if x.startswith("lora")] == [
        "lora: the best rate after 8 steps lies between 0.0001 and 0.01: 0.01 has diverged, and tells nothing closer. "
        "Try rates around 0.001"
    ]


def test_a_rate_that_died_is_left_out(run: RunFolder) -> None:
    tries = search(run, "lora", 2e-3)
    died = Try(learning_rate=1.0, steps=0, validation_loss=None, seconds=0.0)
    tuning = recorded(run, "lora", [*tries, died], 1e-3)
    _, lora = compare(run)[0].optima.arms
    assert lora.rates == 5
    assert "1: died" in tuning_text(tuning)
    recorded(run, "lora", [*tries[:3], died], 1e-3)
    assert [one.arm for one in compare(run)[0].optima.arms] == ["full"]  # three finite rates are too few


def test_a_search_of_an_older_tuneoff_has_no_optimum(run: RunFolder) -> None:
    for rate in RATES:
        run.rate("lora", rate).validation.unlink()
    comparison, _ = compare(run)
    assert [one.arm for one in comparison.optima.arms] == ["full"] and comparison.warnings == []


def test_a_damaged_file_is_told(run: RunFolder) -> None:
    path = run.rate("lora", 1e-3).validation
    path.write_text(path.read_text()[:-8])
    (warning,) = compare(run)[0].warnings
    assert "try-0.001/validation.jsonl is damaged, line 40" in warning
    assert "the optimal learning rate of lora is not told" in warning
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert "its examples are not those of the other tries" in compare(run)[0].warnings[0]


def test_of_a_halving_the_longest_tries_that_tell_it(run: RunFolder) -> None:
    rates = [10.0**-n for n in range(9, 1, -1)]
    rungs = [(rates, 1, 2), (rates[2:6], 2, 4), (rates[3:5], 3, 8)]
    tries = [t for own, rung, steps in rungs for t in search(run, "lora", 2e-6, own, rung, steps)]
    tuning = recorded(run, "lora", tries, 1e-6)
    lora = compare(run)[0].optima.arms[1]
    assert (lora.steps, lora.rates) == (4, 4)
    assert tuning_text(tuning).startswith(
        "learning rate 1e-06, by successive halving on validation loss after 2 steps ("
    )
    assert "; after 8 steps (1e-06: " in tuning_text(tuning) and tuning_text(tuning).endswith("the search took 28.0s")
    # Where the best of the second rung is the first of its rates, and not of all, the first rung tells it.
    tries = [t for own, rung, steps in rungs[:2] for t in search(run, "lora", 2e-7, own, rung, steps)]
    recorded(run, "lora", tries, 1e-7)
    lora = compare(run)[0].optima.arms[1]
    assert (lora.steps, lora.rates, lora.edge) == (2, 8, None)
