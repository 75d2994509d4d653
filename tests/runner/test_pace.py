"""How long a run will take, from its plan and the events so far."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import recipe_values
from tuneoff.folder import RunFolder
from tuneoff.recipe import Recipe, Trial, trials
from tuneoff.records import Plan, PlannedArm, Progress, Range
from tuneoff.runner.events import Event
from tuneoff.runner.pace import Pace


class Clock:
    """A clock that stands until it is moved on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def planned(arm: str, train: float, evaluate: float) -> PlannedArm:
    parts = {"train": train, "evaluate": evaluate, "total": train + evaluate + 4.0}
    seconds = {name: Range(value=value, low=value, high=value) for name, value in parts.items() if value}
    return PlannedArm(arm=arm, method="full", parameters=None, states={}, saved_bytes=None, seconds=seconds)


class Course:
    """A run of `original`, `full` and `lora`, whose training is planned to take 100 s an arm."""

    def __init__(self, path: Path, diagnosis: float | None = None, **values: object) -> None:
        self.clock, self.folder = Clock(), RunFolder(path)
        path.mkdir(exist_ok=True)
        given = recipe_values(path)
        given |= values
        self.recipe = Recipe.model_validate(given)
        self.trials = trials(self.recipe)
        self.pace = Pace(self.folder, self.recipe, self.trials, self.clock)
        arms = [planned("original", 0.0, 20.0), planned("full", 100.0, 20.0), planned("lora", 100.0, 20.0)]
        told = Range(value=diagnosis, low=diagnosis, high=diagnosis) if diagnosis is not None else None
        self.pace.planned(
            Plan(device="CPU", precision="fp32", libraries=0, micro_batch=8, steps=50, arms=arms, diagnosis=told),
            self.trials,
        )

    def phase(self, name: str) -> Progress:
        return self.pace.note(Event("phase", name))

    def work(self, seconds: float, steps: int, total: int = 50, tokens: int | None = None) -> Progress:
        """A phase's progress, told every step, in `seconds`."""
        found = self.pace.note(Event("progress", done=0, total=total, tokens=0 if tokens else None))
        for step in range(1, steps + 1):
            self.clock.now += seconds / steps
            found = self.pace.note(Event("progress", done=step, total=total, tokens=tokens and step * tokens))
        return found


def test_before_anything_is_measured_the_plan_is_what_is_left(tmp_path: Path) -> None:
    course = Course(tmp_path)
    course.pace.begins(Trial("original", 0))
    assert course.phase("load").run_seconds_left == pytest.approx(24 - 4 + 2 * 124)


def test_what_is_measured_corrects_the_plan_of_what_is_left(tmp_path: Path) -> None:
    course = Course(tmp_path)
    course.pace.begins(Trial("original", 0))
    course.phase("evaluate")
    course.work(20.0, 50)  # as planned
    course.pace.ends(Trial("original", 0))
    course.pace.begins(Trial("full", 0))
    course.phase("train")
    found = course.work(50.0, 10, tokens=700)  # a fifth of the training, which takes 2.5 times as long as planned
    assert found.phase_seconds_left == pytest.approx(200.0)
    assert found.tokens_per_second == pytest.approx(140.0)
    full, lora = 200 + 20 + 2, 250 + 20 + 4
    assert found.run_seconds_left == pytest.approx(full + lora)
    assert (found.trial, found.trials, found.arm, found.done, found.total) == (2, 3, "full", 10, 50)


def test_the_correction_is_kept_when_the_phase_has_ended(tmp_path: Path) -> None:
    course = Course(tmp_path)
    course.pace.ends(Trial("original", 0))
    course.pace.begins(Trial("full", 0))
    course.phase("train")
    course.work(250.0, 50)
    assert course.phase("save").run_seconds_left == pytest.approx(20 + 250 + 20 + 4)


def test_the_pace_is_that_of_the_last_moments(tmp_path: Path) -> None:
    course = Course(tmp_path)
    course.pace.begins(Trial("full", 0))
    course.phase("train")
    course.work(100.0, 10)
    for step in range(11, 31):  # ten times as fast from here on
        course.clock.now += 1.0 * 2
        found = course.pace.note(Event("progress", done=step, total=50))
    assert found.phase_seconds_left == pytest.approx(20 * 2.0, rel=0.05)


def test_a_search_counts_its_tries(tmp_path: Path) -> None:
    arms = recipe_values(tmp_path)["arms"]
    arms["lora"] = {**arms["lora"], "tune": {"learning_rate": [1e-3, 3e-3, 1e-2]}}
    arms["lora"].pop("learning_rate")
    source = dict(recipe_values(tmp_path)["data"])
    course = Course(tmp_path, arms=arms, data=source, training={"tune_steps": 10, "examples_per_step": 8})
    for trial in course.trials[:2]:
        course.pace.ends(trial)
    lora, a_try = 124.0, 100.0 * 10 / 50 + 4 / 2
    course.pace.begins(Trial("lora", 0), 1e-3)
    assert course.phase("load").run_seconds_left == pytest.approx(3 * a_try + lora)
    course.phase("try")
    found = course.work(10.0, 5, total=10)  # as planned: 20 s for 10 steps
    assert found.run_seconds_left == pytest.approx(10.0 + 2 * a_try + lora)
    course.pace.begins(Trial("lora", 0), 3e-3)
    assert course.phase("load").run_seconds_left == pytest.approx(2 * a_try + lora)
    course.pace.begins(Trial("lora", 0))
    assert course.phase("load").run_seconds_left == pytest.approx(lora - 4)


def test_the_diagnosis_is_still_to_come(tmp_path: Path) -> None:
    course = Course(tmp_path, diagnosis=60.0)
    for trial in course.trials:
        course.pace.ends(trial)
    course.pace.diagnoses()
    assert course.phase("spectrum").run_seconds_left == pytest.approx(60.0)
    course.clock.now += 15
    found = course.pace.note(Event("progress", done=1, total=4))
    assert found.run_seconds_left == pytest.approx(60.0)  # the time since the phase has told its first progress
    assert found.phase == "diagnose: spectrum"


def test_it_is_in_a_file_for_whoever_watches(tmp_path: Path) -> None:
    course = Course(tmp_path)
    course.pace.begins(Trial("full", 0))
    course.phase("train")
    told = course.work(30.0, 10)
    written = Progress.read(course.folder.progress)
    assert (written.arm, written.phase, written.running) == ("full", "train", True)
    assert told.done - written.done <= 1  # once a second at most
    course.pace.stops()
    assert Progress.read(course.folder.progress).running is False


def test_without_planned_seconds_nothing_is_said_of_the_run(tmp_path: Path) -> None:
    course = Course(tmp_path)
    arms = [
        PlannedArm(arm=name, method="full", parameters=None, states={}, saved_bytes=None) for name in ("full", "lora")
    ]
    course.pace.planned(
        Plan(device="CPU", precision="fp32", libraries=0, micro_batch=8, steps=50, arms=arms), course.trials[1:]
    )
    course.pace.begins(Trial("full", 0))
    course.phase("train")
    found = course.work(10.0, 5)
    assert found.run_seconds_left is None
    assert found.phase_seconds_left == pytest.approx(90.0)
