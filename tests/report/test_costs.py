"""Ratios of time and memory as a run's folder gives them: paired, without disturbed steps, and said in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.made import made_run
from tuneoff.folder import RunFolder, write_lines
from tuneoff.records import KeptStep, Memory, Parameters, PartTime, Trained, TrialResult, read_times
from tuneoff.report.comparison import compare
from tuneoff.report.cost_table import cost_notes, cost_rows
from tuneoff.report.costs import Cost
from tuneoff.report.verdict import verdict


def write_steps(folder: RunFolder, arm: str, seconds: float, busy: range = range(0), count: int = 60) -> None:
    """Steps of like work. In those of `busy` others took half of the CPU time, and steps twice as long."""
    parts = [
        PartTime(
            part=n, seconds=seconds * (1 + n % 3) * (2 if n in busy else 1), others=0.5 if n in busy else 0.01,
            warm_up=n <= 2,
        )
        for n in range(1, count + 1)
    ]  # fmt: skip
    write_lines(folder.trial(arm, 0).step_times, (part.model_dump() for part in parts))


def cost(folder: RunFolder, arm: str, quantity: str) -> Cost:
    return next(c for c in compare(folder)[0].costs if (c.arm, c.quantity) == (arm, quantity))


def test_the_ratio_of_times_is_of_the_same_steps(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    write_steps(folder, "full", 0.2)
    write_steps(folder, "lora", 0.3)
    found = cost(folder, "lora", "train_seconds")
    assert (found.baseline, found.pairs, found.disturbed, found.unlike) == ("full", 58, 0, [])
    assert round(found.ratio.value, 6) == 1.5  # the sums over the clock are equal
    assert found.ratio.low is not None and found.ratio.high is not None
    assert "1.50× [1.50, 1.50] the training time" in verdict(compare(folder)[0])[1]


def early(folder: RunFolder, arm: str, steps: int, planned: int) -> None:
    """Let the training of `arm` have done `steps` of its `planned` steps, of a second each."""
    path = folder.trial(arm, 0).result
    result = TrialResult.read(path)
    kept = KeptStep(
        step=steps, validation_loss=1.0, last_loss=1.0, steps_after=0, seconds_after=0.0,
        stopped_early=steps if steps < planned else None, steps_not_done=planned - steps,
    )  # fmt: skip
    trained = Trained(
        parameters=Parameters(trainable=1, total=1), engine="t5", seconds={}, memory=None, steps=steps, kept=kept,
        examples=8, target_tokens=8, final_loss=1.0, resumed_from_step=None, checkpoints_rejected=[],
    )  # fmt: skip
    seconds = {**(result.seconds or {}), "train": float(steps)}
    result.model_copy(update={"training": trained, "seconds": seconds}).write(path)


def test_where_one_stopped_early_the_ratio_is_of_the_steps_that_both_did(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    early(folder, "full", 30, planned=60)
    early(folder, "lora", 60, planned=60)
    write_steps(folder, "full", 0.2, count=30)
    write_steps(folder, "lora", 0.3, count=60)
    found = cost(folder, "lora", "train_seconds")
    assert (found.pairs, found.steps, round(found.ratio.value, 6)) == (28, (60.0, 30.0), 1.5)
    comparison = compare(folder)[0]
    told = "lora ÷ full, training: 2.00× by the clock over the whole trainings, which are of 60 and 30 steps"
    assert told in cost_notes(comparison)
    assert "1.50× [1.50, 1.50] the training time of the same steps" in verdict(comparison)[1]


def test_without_times_of_steps_different_numbers_of_them_have_no_ratio(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    early(folder, "full", 60, planned=60)
    early(folder, "lora", 60, planned=60)
    assert cost(folder, "lora", "train_seconds").ratio.value == 1.0
    early(folder, "lora", 30, planned=60)
    assert [c for c in compare(folder)[0].costs if c.quantity == "train_seconds"] == []


def test_batches_of_different_size_are_not_paired(tmp_path: Path) -> None:
    """Of two searches, one may take several batches at once: their parts are not the same work."""
    folder = made_run(tmp_path)
    for arm, count in (("full", 16), ("lora", 4)):
        last = [16 // count * (n + 1) for n in range(count)]
        parts = [PartTime(part=n, seconds=8.0 / count, others=0.0, warm_up=n == last[0]) for n in last]
        write_lines(folder.trial(arm, 0).batch_times, (part.model_dump() for part in parts))
    by_clock = cost(made_run(tmp_path / "clock"), "lora", "generate_seconds").ratio.value
    found = cost(folder, "lora", "generate_seconds")
    assert (found.pairs, found.ratio.value) == (1, by_clock)


def timed(
    folder: RunFolder, arm: str, seconds: float, slow: np.ndarray, random: np.random.Generator, **known: Any
) -> None:
    """Steps of so many seconds on a machine that is `slow` times as slow at each, its speed measured once a second."""
    took = seconds * slow * random.lognormal(0, 0.02, len(slow))
    span = np.cumsum(took).astype(int)
    measured = 0.01 * slow * random.lognormal(0, 0.15, span[-1] + 1)[span]
    measured = np.array([measured[np.searchsorted(span, s, "right") - 1] for s in span])  # at the end of the second
    parts = [
        PartTime(part=n + 1, seconds=s, **{"others": 0.0, "yardstick": y, **known})
        for n, (s, y) in enumerate(zip(took.tolist(), measured.tolist(), strict=True))
    ]
    write_lines(folder.trial(arm, 0).step_times, (part.model_dump() for part in parts))


@pytest.mark.parametrize("drift", [0.0, 0.2])
def test_times_are_compared_as_if_the_machine_had_been_as_fast_for_both(tmp_path: Path, drift: float) -> None:
    folder, random, covered = made_run(tmp_path), np.random.default_rng(7), 0
    for _ in range(16):
        for arm, seconds in (("full", 0.5), ("lora", 0.65)):
            wave = np.sin(np.arange(400) / 60 + random.uniform(0, 6))  # for a minute at a time
            timed(folder, arm, seconds, np.exp(drift * (wave + random.normal())), random)
        found = cost(folder, "lora", "train_seconds")
        assert found.evened and found.ratio.low is not None and found.ratio.high is not None
        assert found.ratio.value == pytest.approx(1.3, rel=0.06)
        covered += found.ratio.low <= 1.3 <= found.ratio.high
    assert covered >= 13


def test_a_ratio_of_evened_times_says_what_it_was_by_the_clock(tmp_path: Path) -> None:
    folder, random = made_run(tmp_path), np.random.default_rng(3)
    timed(folder, "full", 0.5, np.ones(300), random)
    timed(folder, "lora", 0.65, np.full(300, 0.6), random)
    comparison = compare(folder)[0]
    rows = [row.model_copy(update={"train_seconds": 78.0 if row.arm == "lora" else 100.0}) for row in comparison.arms]
    notes = cost_notes(comparison.model_copy(update={"arms": rows}))
    assert any("as if the machine had been as fast for both" in note for note in notes)
    assert "lora ÷ full, training: 0.78× by the clock, of a machine that was not as fast for both" in notes


def test_the_speed_is_that_of_the_steps_that_are_set_in_ratio(tmp_path: Path) -> None:
    """Another program that takes most of the time slows the yardstick, too: of steps that are left out."""
    folder, random = made_run(tmp_path), np.random.default_rng(5)
    timed(folder, "full", 0.5, np.ones(400), random)
    timed(folder, "lora", 0.5, np.ones(400), random)
    path = folder.trial("lora", 0).step_times
    busy = [part.part % 12 < 8 for part in read_times(path)]
    parts = [
        part.model_copy(update={"seconds": 2 * part.seconds, "yardstick": 2 * (part.yardstick or 0), "others": 0.5})
        if held_up
        else part
        for part, held_up in zip(read_times(path), busy, strict=True)
    ]
    write_lines(path, (part.model_dump() for part in parts))
    found = cost(folder, "lora", "train_seconds")
    assert found.disturbed > 200
    assert found.ratio.value == pytest.approx(1.0, abs=0.05)


def test_a_speed_that_was_measured_too_seldom_or_in_one_arm_changes_nothing(tmp_path: Path) -> None:
    folder, random = made_run(tmp_path), np.random.default_rng(5)
    timed(folder, "full", 0.1, np.ones(60), random)
    timed(folder, "lora", 0.13, np.ones(60), random)
    found = cost(folder, "lora", "train_seconds")
    assert not found.evened and found.ratio.value == pytest.approx(1.3, rel=0.01)
    timed(folder, "full", 0.5, np.ones(60), random, yardstick=None)
    timed(folder, "lora", 0.65, np.ones(60), random)
    found = cost(folder, "lora", "train_seconds")
    assert not found.evened and found.ratio.value == pytest.approx(1.3, rel=0.01)
    assert not any("as fast for both" in note for note in cost_notes(compare(folder)[0]))


def test_steps_of_a_busy_machine_are_left_out_and_it_is_told(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    write_steps(folder, "full", 0.2, busy=range(20, 40))
    write_steps(folder, "lora", 0.3)
    found = cost(folder, "lora", "train_seconds")
    assert (round(found.ratio.value, 6), found.pairs, found.disturbed) == (1.5, 38, 20)
    comparison = compare(folder)[0]
    assert cost_rows(comparison)[1][1] == "1m 40s*"
    assert any("20 of 58 steps left out" in note for note in cost_notes(comparison))
    busy = next(row.busy["train"] for row in comparison.arms if row.arm == "full")
    assert 0.2 < busy < 0.3
    said = [sentence for sentence in verdict(comparison) if "busy machine" in sentence]
    assert len(said) == 1 and said[0].startswith("full was trained on a busy machine: other programs took 2")
    assert not next(row.busy for row in comparison.arms if row.arm == "lora")


def test_where_all_was_busy_there_is_a_ratio_without_an_interval(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    write_steps(folder, "full", 0.2, busy=range(1, 58))
    write_steps(folder, "lora", 0.3)
    found = cost(folder, "lora", "train_seconds")
    assert (found.ratio.low, found.ratio.high, found.pairs, found.disturbed) == (None, None, 58, 55)
    assert any("too few others are left" in note for note in cost_notes(compare(folder)[0]))


def test_without_times_of_steps_the_sums_are_set_in_ratio(tmp_path: Path) -> None:
    found = cost(made_run(tmp_path), "lora", "train_seconds")
    assert (found.ratio.value, found.ratio.low, found.pairs) == (1.0, None, 1)


def test_each_peak_is_named_and_the_original_has_none_of_training(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    for arm, held in (("original", 1.0), ("full", 4.0), ("lora", 2.0)):
        result = TrialResult.read(folder.trial(arm, 0).result)
        assert isinstance(result.memory, Memory)
        memory = result.memory.model_copy(update={"process_peak": int(held * 2**30)})
        result.model_copy(update={"memory": memory}).write(folder.trial(arm, 0).result)
    assert cost(folder, "lora", "process_peak_bytes").ratio.value == 0.5
    assert cost(folder, "original", "process_peak_bytes").ratio.value == 0.25
    assert round(cost(folder, "lora", "train_peak_bytes").ratio.value, 6) == round(300 / 900, 6)
    quantities = {c.quantity for c in compare(folder)[0].costs if c.arm == "original"}
    assert quantities == {"generate_seconds", "generate_peak_bytes", "process_peak_bytes"}
    rows = cost_rows(compare(folder)[0])
    assert rows[0] == ["original", "–", "10.0s", "–", "300 MiB", "1.00 GiB"]
    assert rows[-1][0] == "lora ÷ full"
