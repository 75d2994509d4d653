"""A run whose files are damaged, missing or foreign: the table in docs/safety.md, row by row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import recipe_values
from tests.report.made import made_run
from tests.report.test_learnt import diagnosed
from tuneoff.errors import DamagedFileError, ForeignResultError, RecipeChangedError, RunFolderError, UnreadableFileError
from tuneoff.folder import RunFolder
from tuneoff.recipe import Recipe, Trial, Words, recipe_of
from tuneoff.records import PartTime, Plan, Resolved, RunMark, Trained, TrialResult, Try, Tuning, UpdateLosses
from tuneoff.report.comparison import compare
from tuneoff.report.page import write_report
from tuneoff.runner.claim import claim
from tuneoff.runner.finished import Finished
from tuneoff.runner.run import Run

LORA = Trial("lora", 0)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = made_run(tmp_path / "run", dialogues=12)
    Plan(device="CPU", precision="fp32", libraries=1, micro_batch=8, steps=1, arms=[]).write(folder.plan)
    return folder


class Heard:
    """Listens to a run for its warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warns(self, text: str) -> None:
        self.warnings.append(text)


def going_on(folder: RunFolder) -> tuple[Run, Heard]:
    heard = Heard()
    return Run(recipe_of(folder), folder, heard), heard  # type: ignore[arg-type]


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


def another_json(path: Path) -> None:
    path.write_text('{"some": "thing"}')


DAMAGES = [cut, no_text, another_json]


def test_resolved_json_missing(run: RunFolder) -> None:
    recipe = recipe_of(run)
    run.resolved.unlink()
    assert compare(run)[0].evidence is not None
    with pytest.raises(RunFolderError, match=r"no resolved\.json, which says what it ran on"):
        Finished(run, "lora")
    with pytest.raises(RecipeChangedError, match=r"holds trials, and no resolved\.json"):
        claim(run, recipe)


@pytest.mark.parametrize("damage", DAMAGES)
def test_resolved_json_damaged(run: RunFolder, damage: Callable[[Path], None]) -> None:
    recipe = recipe_of(run)
    damage(run.resolved)
    for reads in (compare, write_report, lambda run: Finished(run, "lora"), lambda run: claim(run, recipe)):
        with pytest.raises(DamagedFileError, match=r"resolved\.json is damaged \(.*\)$"):
            reads(run)


def test_recipe_yaml_missing(run: RunFolder) -> None:
    recipe = recipe_of(run)
    run.recipe.unlink()
    assert compare(run)[0].evidence is not None
    assert Finished(run, "lora").spec.method == "lora"
    other = recipe.model_copy(update={"seeds": [1]})
    with pytest.raises(RecipeChangedError, match="holds a run of another recipe"):
        claim(run, other)
    claim(run, recipe)
    assert run.recipe.is_file()


def test_recipe_yaml_damaged(run: RunFolder) -> None:
    recipe = recipe_of(run)
    run.recipe.write_text("model: [")
    assert compare(run)[0].evidence is not None
    assert Finished(run, "lora").spec.method == "lora"
    with pytest.raises(RecipeChangedError, match="Without that file the run goes on"):
        claim(run, recipe)


@pytest.mark.parametrize("damage", DAMAGES)
def test_plan_json_damaged(run: RunFolder, damage: Callable[[Path], None]) -> None:
    damage(run.plan)
    comparison, _ = compare(run)
    assert comparison.evidence is not None
    assert any(w.startswith(str(run.plan)) and "predictions are not shown" in w for w in comparison.warnings)


@pytest.mark.parametrize("damage", DAMAGES)
def test_result_json_damaged(run: RunFolder, damage: Callable[[Path], None]) -> None:
    path = run.trial("lora", 0).result
    damage(path)
    for reads in (compare, lambda run: Finished(run, "lora")):
        with pytest.raises(DamagedFileError, match=r"lora/seed-0/result\.json is damaged"):
            reads(run)
    going, heard = going_on(run)
    assert going._finished(LORA) is None and not path.exists()
    assert heard.warnings[0].endswith("lora at seed 0 is evaluated again")
    assert compare(run)[0].unfinished == ["lora/seed-0"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_trained_json_damaged(run: RunFolder, damage: Callable[[Path], None]) -> None:
    path = run.trial("lora", 0).trained
    trained(run).write(path)
    assert going_on(run)[0]._parts(LORA) == ["evaluate"]
    damage(path)
    going, heard = going_on(run)
    assert going._parts(LORA) == ["train", "evaluate"] and not path.exists()
    assert heard.warnings[0].endswith("lora at seed 0 is trained again")


def trained(run: RunFolder) -> Trained:
    return Trained(
        origin=Resolved.read(run.resolved).origin, parameters=TrialResult.read(run.trial("lora", 0).result).parameters,  # type: ignore[arg-type]
        engine="t5: so", seconds={"train": 1.0}, memory=None, steps=1, examples=1, target_tokens=1, final_loss=1.0,
        resumed_from_step=None, checkpoints_rejected=[],
    )  # fmt: skip


def test_predictions_damaged(run: RunFolder) -> None:
    path = run.trial("lora", 0).predictions
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], lines[4][:20], *lines[5:]]))
    with pytest.raises(DamagedFileError, match=r"predictions\.jsonl is damaged, line 5 \("):
        compare(run)
    path.write_text("\n".join(lines[:9]) + "\n")  # at the end of a line
    with pytest.raises(
        DamagedFileError, match=r"predictions\.jsonl is damaged \(it has 9 lines, and 12 texts were scored"
    ):
        compare(run)
    path.unlink()
    with pytest.raises(DamagedFileError, match=r"predictions\.jsonl is missing"):
        compare(run)


def test_history_and_environment_damaged(run: RunFolder) -> None:
    run.trial("lora", 0).history.write_bytes(b'{"step": 1, "loss": 2.0}\n\xff\xfe{\n[1]\n{"loss": 3}\n')
    no_text(run.environment)
    write_report(run)
    assert "environment.json is damaged (it is no text in UTF-8)" in run.report.read_text()


def test_results_of_another_run_are_refused_by_name(run: RunFolder, tmp_path: Path) -> None:
    other = made_run(tmp_path / "other", dialogues=12)
    for folder, mark in ((run, "a" * 32), (other, "b" * 32)):
        resolved = Resolved.read(folder.resolved).model_copy(update={"run": mark})
        resolved.write(folder.resolved)
        for arm in ("original", "full", "lora"):
            path = folder.trial(arm, 0).result
            TrialResult.read(path).model_copy(update={"origin": resolved.origin}).write(path)
    assert compare(run)[0].evidence is not None
    foreign = other.trial("lora", 0).result.read_text()
    run.trial("lora", 0).result.write_text(foreign)
    for reads in (compare, lambda run: Finished(run, "lora"), lambda run: going_on(run)[0]._finished(LORA)):
        with pytest.raises(ForeignResultError, match=r"lora/seed-0/result\.json is of another run"):
            reads(run)


@pytest.mark.parametrize("kind", [Trained, Tuning, Try])
def test_what_another_run_left_half_done_is_refused_by_name(run: RunFolder, kind: type[Trained | Tuning | Try]) -> None:
    resolved = Resolved.read(run.resolved).model_copy(update={"run": "a" * 32})
    resolved.write(run.resolved)
    path, record = {
        Trained: (run.trial("lora", 0).trained, trained(run)),
        Tuning: (run.tuning("lora"), Tuning(arm="lora", tries=[], chosen=1e-3)),
        Try: (run.rate("lora", 1e-3).tried, Try(learning_rate=1e-3, steps=1, validation_loss=1.0, seconds=1.0)),
    }[kind]
    going, _ = going_on(run)
    record.model_copy(update={"origin": resolved.origin}).write(path)
    assert going._kept(kind, path, "") is not None
    record.model_copy(update={"origin": RunMark(run="b" * 32, recipe_sha256=resolved.sha256)}).write(path)
    without = path if kind is Tuning else path.parent
    with pytest.raises(ForeignResultError, match=rf"{path.name} is of another run .* Without {without} "):
        going._kept(kind, path, "")
    assert path.exists()


def test_reading_writes_nothing(run: RunFolder) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    compare(run)
    Finished(run, "lora")
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before


def test_what_no_result_hangs_on_may_change(run: RunFolder) -> None:
    recipe = recipe_of(run)
    origin = Resolved.read(run.resolved).origin
    training = recipe.training.model_copy(update={"checkpoint_minutes": 1.5, "report_to": ["tensorboard"]})
    claim(run, recipe.model_copy(update={"training": training, "words": Words(example="talk")}))
    resolved = Resolved.read(run.resolved)
    assert (recipe_of(run).training.checkpoint_minutes, recipe_of(run).training.report_to) == (1.5, ["tensorboard"])
    assert resolved.origin == origin and compare(run)[0].words.examples == "talks"
    assert "checkpoint_minutes: 1.5" in run.recipe.read_text()
    claim(run, recipe_of(run))


def test_what_is_written_for_people_is_never_read(run: RunFolder) -> None:
    write_report(run)
    for path in (run.comparison, run.report, run.path / "report.md"):
        no_text(path)
    assert compare(run)[0].evidence is not None
    write_report(run)
    assert json.loads(run.comparison.read_text())["evidence"]


def test_times_of_steps_damaged(run: RunFolder) -> None:
    for arm in ("full", "lora"):
        lines = [PartTime(part=n, seconds=1.0, others=0.0).model_dump_json() for n in range(1, 41)]
        run.trial(arm, 0).step_times.write_text("\n".join(lines) + "\n")
    assert train_pairs(run) == 40
    path = run.trial("lora", 0).step_times
    content = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*content[:20], b"\xff\xfe" + content[20], *content[21:]]))
    assert train_pairs(run) == 20  # whole lines before the damage
    no_text(path)
    assert train_pairs(run) == 1  # the seconds of the phases


def train_pairs(run: RunFolder) -> int:
    (cost,) = [c for c in compare(run)[0].costs if (c.arm, c.quantity) == ("lora", "train_seconds")]
    return cost.pairs


@pytest.mark.parametrize("damage", DAMAGES)
def test_tuning_json_damaged(run: RunFolder, damage: Callable[[Path], None]) -> None:
    path = run.tuning("lora")
    Tuning(arm="lora", tries=[], chosen=1e-3).write(path)
    going, heard = going_on(run)
    assert going._kept(Tuning, path, "searched again") is not None
    damage(path)
    assert going._kept(Tuning, path, "searched again") is None and not path.exists()
    assert heard.warnings[0].endswith(": searched again")


@pytest.mark.parametrize("name", ["losses", "diagnosis"])
@pytest.mark.parametrize("damage", [cut, no_text, another_json])
def test_a_diagnosis_that_is_damaged_is_told_and_left_out(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    folder = diagnosed(tmp_path / "run")
    path = getattr(folder.trial("lora", 0), name)
    damage(path)
    comparison, arms = compare(folder)
    assert [w for w in comparison.warnings if str(path) in w and w.endswith(": `tuneoff diagnose` makes it anew")]
    assert set(getattr(arms[2], {"losses": "losses", "diagnosis": "diagnoses"}[name])) == set()
    assert comparison.forgotten is not None and "full" in comparison.forgotten.by_kind
    write_report(folder)


def test_a_diagnosis_of_another_run_is_not_shown(tmp_path: Path) -> None:
    folder = diagnosed(tmp_path / "run")
    path = folder.trial("lora", 0).losses
    foreign = UpdateLosses.read(path).model_copy(update={"origin": RunMark(run="other", recipe_sha256="0")})
    foreign.write(path)
    found = compare(folder)[0].forgotten
    assert found is not None and list(found.by_kind) == ["full"]


def test_what_cannot_be_read_now_may_be_whole_and_is_left_alone(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Path, **_: object) -> str:
        raise OSError(5, "Input/output error")

    path = run.trial("lora", 0).result
    monkeypatch.setattr(Path, "read_text", fails)
    with pytest.raises(UnreadableFileError, match=r"cannot be read \(Input/output error\)"):
        going_on_without_reading(run)._finished(LORA)
    assert path.exists()


def going_on_without_reading(run: RunFolder) -> Run:
    recipe = Recipe.model_validate(recipe_values(run.path))
    return Run(recipe, run, Heard())  # type: ignore[arg-type]
