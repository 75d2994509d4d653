"""The parent's part of a run, with children that do no work but leave what real ones would."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import recipe_values, write_jsonl
from tests.runner.resolving import resolved_for
from tests.runner.test_child import write_plan
from tuneoff.errors import DataError, InterruptedRunError, ModelError, PrepareFailedError, RunFolderError, TuneoffError
from tuneoff.folder import RunFolder
from tuneoff.recipe import Recipe, read_recipe
from tuneoff.records import Failure, Resolved, TrialResult, Try
from tuneoff.runner import run as running
from tuneoff.runner.process import Ended
from tuneoff.runner.run import Run


class Silent:
    """A listener that only keeps who ended, and warnings."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.warned: list[str] = []

    def begins(self, *_: Any) -> None: ...

    def tells(self, *_: Any) -> None: ...

    def resolved(self, *_: Any) -> None: ...

    def planned(self, *_: Any) -> None: ...

    def tuned(self, *_: Any) -> None: ...

    def warns(self, text: str) -> None:
        self.warned.append(text)

    def diagnoses(self) -> None: ...

    def ends(self, trial: Any, result: TrialResult, kept: bool) -> None:
        self.ended.append(f"{trial.arm} {result.status}")


@pytest.fixture
def asked() -> list[str]:
    """What children were asked besides the parts of trials."""
    return []


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch, asked: list[str]) -> dict[str, Ended]:
    """How the children of arms end, by the arm's name, or `prepare`; the others do what they should."""
    ends: dict[str, Ended] = {}

    class Child:
        def __init__(self, arguments: list[str], log: Path) -> None:
            self.folder, self.work = RunFolder(Path(arguments[0])), arguments[1:]

        def listen(self, tell: Callable[[Any], None]) -> Ended:
            kind = self.work[0]
            name = kind if kind in ("prepare", "diagnose") else self.work[1]
            return ends[name] if name in ends else getattr(self, kind)()

        def prepare(self) -> Ended:
            if not self.folder.resolved.is_file():
                resolved_for(read_recipe(self.folder.recipe).recipe, self.folder)
                write_plan(self.folder)
            return Ended()

        def train(self) -> Ended:
            return Ended()

        def evaluate(self) -> Ended:
            arm, seed = self.work[1], int(self.work[2])
            resolved = Resolved.read(self.folder.resolved)
            settings = {"learning_rate": resolved.learning_rates[arm]}
            done = TrialResult(origin=resolved.origin, arm=arm, seed=seed, status="done", method=arm, settings=settings)
            done.write(self.folder.trial(arm, seed).result)
            return Ended()

        def diagnose(self) -> Ended:
            asked.append("diagnose")
            return Ended()

        def try_(self) -> Ended:
            rate = float(self.work[3])
            tried = Try(learning_rate=rate, steps=1, validation_loss=abs(rate - 1e-3), seconds=0.0)
            tried.write(self.folder.rate(self.work[1], rate).tried)
            return Ended()

    setattr(Child, "try", Child.try_)
    monkeypatch.setattr(running, "Child", Child)
    return ends


def test_the_rate_that_was_found_is_in_resolved_json_before_its_trials(
    children: dict[str, Ended], data_folder: Path, tmp_path: Path
) -> None:
    values = recipe_values(data_folder)
    values["arms"]["full"] = {"method": "full", "tune": {"learning_rate": [1e-4, 1e-3, 1e-2]}}
    folder = RunFolder(tmp_path)
    assert Run(Recipe.model_validate(values), folder, Silent()).carry_out()
    result = TrialResult.read(folder.trial("full", 0).result)
    assert result.settings["learning_rate"] == 1e-3
    # Killed between the search's record and resolved.json: the next run settles it.
    resolved = Resolved.read(folder.resolved)
    resolved.model_copy(update={"learning_rates": {**resolved.learning_rates, "full": None}}).write(folder.resolved)
    folder.trial("full", 0).result.unlink()
    assert Run(Recipe.model_validate(values), folder, Silent()).carry_out()
    assert Resolved.read(folder.resolved) == resolved
    assert TrialResult.read(folder.trial("full", 0).result) == result


@pytest.mark.parametrize("error", [DataError("no such split"), ModelError("no such model")])
def test_a_mistake_that_preparing_finds_is_raised_as_it_is(
    children: dict[str, Ended], data_folder: Path, tmp_path: Path, error: TuneoffError
) -> None:
    children["prepare"] = Ended(mistake=error)
    with pytest.raises(type(error), match=str(error)):
        Run(Recipe.model_validate(recipe_values(data_folder)), RunFolder(tmp_path), Silent()).carry_out()


def test_preparing_that_dies_and_an_interrupted_run_are_in_the_tree(
    children: dict[str, Ended], data_folder: Path, tmp_path: Path
) -> None:
    recipe = Recipe.model_validate(recipe_values(data_folder))
    children["prepare"] = Ended(failure=Failure(kind="exception", message="KeyError: 'x'", log="Traceback"))
    with pytest.raises(PrepareFailedError, match="KeyError: 'x'\nTraceback"):
        Run(recipe, RunFolder(tmp_path), Silent()).carry_out()
    children["prepare"] = Ended(stopped=True)
    with pytest.raises(InterruptedRunError):
        Run(recipe, RunFolder(tmp_path), Silent()).carry_out()
    assert issubclass(InterruptedRunError, TuneoffError) and issubclass(PrepareFailedError, TuneoffError)


def test_a_mistake_that_a_trial_meets_is_its_failure_and_the_others_go_on(
    children: dict[str, Ended], data_folder: Path, tmp_path: Path
) -> None:
    children["full"] = Ended(mistake=ModelError("no weights in safetensors"))
    folder, listener = RunFolder(tmp_path), Silent()
    assert not Run(Recipe.model_validate(recipe_values(data_folder)), folder, listener).carry_out()
    assert listener.ended == ["original done", "full failed", "lora done"]
    failure = TrialResult.read(folder.trial("full", 0).result).failure
    assert failure is not None and failure.message == "no weights in safetensors"


def test_a_check_that_fails_is_the_arm_s_failure(children: dict[str, Ended], data_folder: Path, tmp_path: Path) -> None:
    children["full"] = Ended(failure=Failure(kind="check", message="the losses differ", log=""))
    listener = Silent()
    assert not Run(Recipe.model_validate(recipe_values(data_folder)), RunFolder(tmp_path), listener).carry_out()
    assert listener.ended == ["original done", "full failed", "lora done"]


@pytest.mark.parametrize("name", ["result", "trained"])
def test_a_folder_in_a_file_s_place_is_refused_and_stays(
    children: dict[str, Ended], data_folder: Path, tmp_path: Path, name: str
) -> None:
    run = Run(Recipe.model_validate(recipe_values(data_folder)), RunFolder(tmp_path), Silent())
    run.carry_out()
    trial = RunFolder(tmp_path).trial("full", 0)
    trial.result.unlink()
    place = getattr(trial, name)
    place.mkdir()
    with pytest.raises(RunFolderError, match=f"full/seed-0/{name}.json is a folder"):
        run.carry_out()
    assert place.is_dir()


def diagnosing(data_folder: Path) -> Recipe:
    return Recipe.model_validate({**recipe_values(data_folder), "diagnose": "on"})


def test_the_trials_are_diagnosed_at_the_end_and_where_the_recipe_says_so(
    children: dict[str, Ended], asked: list[str], data_folder: Path, tmp_path: Path
) -> None:
    recipe = diagnosing(data_folder)
    assert Run(recipe, RunFolder(tmp_path / "on"), Silent()).carry_out() and asked == ["diagnose"]
    assert Run(recipe, RunFolder(tmp_path / "on"), Silent()).carry_out() and asked == ["diagnose"] * 2  # not yet there
    off = recipe.model_copy(update={"diagnose": None})
    assert Run(off, RunFolder(tmp_path / "off"), Silent()).carry_out() and len(asked) == 2
    untrained = recipe.model_copy(update={"arms": {"original": recipe.arms["original"]}})
    assert Run(untrained, RunFolder(tmp_path / "untrained"), Silent()).carry_out() and len(asked) == 2


def test_a_diagnosis_that_fails_is_a_warning_and_one_that_is_stopped_ends_the_run(
    children: dict[str, Ended], data_folder: Path, tmp_path: Path
) -> None:
    children["diagnose"] = Ended(failure=Failure(kind="out of memory", message="killed (SIGKILL)", log=""))
    listener = Silent()
    assert Run(diagnosing(data_folder), RunFolder(tmp_path), listener).carry_out()
    assert listener.ended == ["original done", "full done", "lora done"]
    (warning,) = listener.warned
    assert warning == (
        f"not diagnosed: out of memory: killed (SIGKILL); `tuneoff diagnose {tmp_path}` tries it again"
    )  # fmt: skip
    children["diagnose"] = Ended(stopped=True)
    with pytest.raises(InterruptedRunError):
        Run(diagnosing(data_folder), RunFolder(tmp_path), listener).carry_out()


def test_texts_that_are_gone_by_then_are_a_warning(
    children: dict[str, Ended], asked: list[str], data_folder: Path, tmp_path: Path
) -> None:
    texts = tmp_path / "gone.jsonl"
    write_jsonl(texts, [{"text": "one"}, {"text": "two"}])
    recipe = diagnosing(data_folder)
    evaluation = recipe.evaluation.model_copy(update={"retain": str(texts)})

    class Until(Silent):
        def ends(self, *_: Any, **__: Any) -> None:
            texts.unlink(missing_ok=True)

    listener = Until()
    assert Run(recipe.model_copy(update={"evaluation": evaluation}), RunFolder(tmp_path / "run"), listener).carry_out()
    assert asked == [] and "gone.jsonl: cannot read" in listener.warned[0]


def test_it_runs_outside_of_the_main_thread(children: dict[str, Ended], data_folder: Path, tmp_path: Path) -> None:
    outcome: list[bool] = []

    def work() -> None:
        recipe = Recipe.model_validate(recipe_values(data_folder))
        outcome.append(Run(recipe, RunFolder(tmp_path), Silent()).carry_out())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outcome == [True]
