"""Ratios of time and memory as a run's folder gives them: paired, without disturbed steps, and said in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.report.made import made_run
from tuneoff.folder import RunFolder, write_lines
from tuneoff.records import Memory, PartTime, TrialResult, read_times
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
    assert "1.50× [1.50, 1.50] the training time" in verdict(compare(folder)[0])[0]


def test_times_are_compared_as_if_the_machine_were_as_fast_in_both(tmp_path: Path) -> None:
    folder, random = made_run(tmp_path), np.random.default_rng(7)
    for arm, seconds, speed in (("full", 1.0, 1.0), ("lora", 1.3, 0.6)):  # LoRA's on a machine that has sped up
        slow = speed * np.exp(0.2 * np.sin(np.arange(120) / 20 + 5 * speed))  # and changes for a minute at a time
        measured = 0.01 * slow * random.lognormal(0, 0.15, 120)
        parts = [PartTime(part=n + 1, seconds=seconds * slow[n], others=0.0, yardstick=measured[n]) for n in range(120)]
        write_lines(folder.trial(arm, 0).step_times, (part.model_dump() for part in parts))
    found = cost(folder, "lora", "train_seconds")
    assert found.ratio.value == pytest.approx(1.3, rel=0.03)  # by the clock it is 0.78
    assert found.ratio.low is not None and found.ratio.low < 1.3 < found.ratio.high  # type: ignore[operator]
    path = folder.trial("full", 0).step_times  # a time is not compared with one in other units
    write_lines(path, [part.model_copy(update={"yardstick": None}).model_dump() for part in read_times(path)])
    assert cost(folder, "lora", "train_seconds").ratio.value == pytest.approx(0.78, rel=0.1)


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
