"""What a child does before the trials, in this process; and how it ends where a check of a trial fails."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest

from tests.conftest import recipe_values
from tests.runner.resolving import begin, resolved_for
from tuneoff.errors import CheckFailedError, DoesNotFitError, ModelError, RecipeChangedError
from tuneoff.folder import RunFolder
from tuneoff.records import Fit, Plan, PlannedArm, Resolved
from tuneoff.runner import child, training
from tuneoff.runner.child import _prepare
from tuneoff.runner.events import Reporter, parse_event


def planned(arm: str, fits: bool) -> PlannedArm:
    fit = Fit(device="this machine", capacity=2**30, fits="yes" if fits else "no", micro_batch=None, advice=[])
    return PlannedArm(arm=arm, method=arm, parameters=None, states={}, saved_bytes=None, process_peak=2**31, fits=[fit])


def write_plan(folder: RunFolder, micro_batch: int = 4) -> None:
    arms = [planned("original", True), planned("full", False), planned("lora", True)]
    Plan(device="cpu", precision="fp32", libraries=0, micro_batch=micro_batch, steps=10, arms=arms).write(folder.plan)


def test_only_arms_that_are_about_to_run_are_refused(data_folder: Path, tmp_path: Path) -> None:
    _, folder = begin(recipe_values(data_folder), tmp_path)
    write_plan(folder)
    report = Reporter(io.StringIO())
    with pytest.raises(DoesNotFitError, match="arm full is predicted to need"):
        _prepare(folder, report, arms=["original", "full", "lora"], force=False)
    assert not folder.resolved.is_file()
    _prepare(folder, report, arms=["full"], force=True)
    folder.resolved.unlink()
    _prepare(folder, report, arms=["original", "lora"], force=False)
    assert Resolved.read(folder.resolved).micro_batch == 4  # the plan's


def test_a_resumed_run_is_resolved_once(data_folder: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(data_folder, tmp_path / "data"))
    _, folder = begin(recipe_values(data), tmp_path / "run")
    write_plan(folder)
    _prepare(folder, Reporter(io.StringIO()), arms=["original"], force=False)
    before = folder.resolved.read_bytes()
    write_plan(folder, micro_batch=2)
    folder.recipe.unlink()  # resolved.json has all
    _prepare(folder, Reporter(io.StringIO()), arms=["original"], force=False)
    assert folder.resolved.read_bytes() == before
    (data / "validation.jsonl").unlink()
    with pytest.raises(RecipeChangedError, match="data validation: 6 examples"):
        _prepare(folder, Reporter(io.StringIO()), arms=["original"], force=True)
    assert folder.resolved.read_bytes() == before


@pytest.mark.parametrize(
    ("error", "status", "kind", "text"),
    [
        (CheckFailedError("two\nlines"), child.FAILED, "failure", "two lines"),
        (ModelError("no weights"), child.MISTAKE, "error", "no weights"),
        (KeyError("x"), child.FAILED, "failure", "KeyError: 'x'"),
    ],
)
def test_a_trial_reads_resolved_json_alone_and_tells_how_it_ended(
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    kind: str,
    text: str,
) -> None:
    recipe, folder = begin(recipe_values(data_folder), tmp_path)
    resolved = resolved_for(recipe, folder)
    folder.recipe.unlink()

    class Run:
        def __init__(self, given: Resolved, *_: object) -> None:
            assert given == resolved

        def run(self) -> None:
            raise error

    monkeypatch.setattr(training, "TrialTraining", Run)
    monkeypatch.setattr(child.Stop, "listen", lambda _: None)
    stream = io.StringIO()
    assert child.main([str(tmp_path), "train", "full", "0"], Reporter(stream)) == status
    event = parse_event(stream.getvalue())
    assert event is not None
    assert (event.kind, event.text) == (kind, text)
    if kind == "failure":
        assert event.failure == ("check" if isinstance(error, CheckFailedError) else "exception")
