"""Where a run is started, and that it is whole wherever it lies."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.cli.commands import tuneoff, write_recipe
from tests.conftest import recipe_values
from tests.report.made import made_run


def test_a_mistyped_run_names_the_near_one_and_starts_nothing(tmp_path: Path) -> None:
    made_run(tmp_path / "tickets", dialogues=12)
    for arguments, more in (
        (("run", "--out", tmp_path / "tikets"), " To start one, name a recipe: tuneoff run RECIPE --out "),
        (("show", tmp_path / "tikets"), ""),
        (("report", tmp_path / "tikets"), ""),
        (("generate", tmp_path / "tikets", "--arm", "lora"), ""),
    ):
        _, err = tuneoff(*arguments, status=2)
        told = f"tuneoff: {tmp_path}/tikets holds no run; did you mean '{tmp_path}/tickets'?{more}"
        assert err.startswith(told) and err.count("\n") == 1
    assert not (tmp_path / "tikets").exists()


@pytest.mark.parametrize("name", ["notes.txt", "recipe.yaml"])
def test_a_folder_of_other_files_is_not_written_into(name: str, tmp_path: Path) -> None:
    taken, one, two = tmp_path / "taken", tmp_path / "one", tmp_path / "two"
    taken.mkdir()
    (taken / name).write_text("mine: yes\n")
    for run in (one, two):
        made_run(run, dialogues=12)
    commands = [("run", "demo-small", "--out", taken)]
    if name == "notes.txt":  # a folder with a recipe.yaml is taken for a run
        commands.append(("report", one, two, "--out", taken))
    for command in commands:
        _, err = tuneoff(*command, status=2)
        assert err.startswith(f"tuneoff: {taken} holds other files ({name})") and err.count("\n") == 1
    assert [path.name for path in taken.iterdir()] == [name]
    assert (taken / name).read_text() == "mine: yes\n"


def test_reports_of_several_runs_replace_each_other(tmp_path: Path) -> None:
    for name in ("one", "two"):
        made_run(tmp_path / name, dialogues=12)
    for _ in range(2):
        out, _ = tuneoff("report", tmp_path / "one", tmp_path / "two", "--out", tmp_path / "both")
        assert out == f"{tmp_path}/both/report.html\n"
    (tmp_path / "both" / "report.html").write_text("<html>somebody else's</html>")
    tuneoff("report", tmp_path / "one", tmp_path / "two", "--out", tmp_path / "both", status=2)


def test_a_run_goes_on_where_it_was_moved_to_and_its_report_says_how_to_repeat_it(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    (project / "mine.py").write_text("def same(text, reference):\n    return float(text == reference)\n")
    values = recipe_values(data_folder, layers=1)  # a model of random weights, which lies in the run's folder
    values["training"] = {"max_steps": 1, "examples_per_step": 8, "precision": "fp32"}
    values["data"]["source"] = "data"
    values["evaluation"] |= {"metrics": ["rouge1", "mine:same"]}
    del values["arms"]["original"]
    (project / "data").symlink_to(data_folder)
    recipe = write_recipe(project / "recipe.yaml", values)
    monkeypatch.chdir(project)
    tuneoff("run", recipe, "--out", project / "runs" / "one", "--arm", "full")
    moved = elsewhere / "moved"
    (project / "runs" / "one").rename(moved)

    monkeypatch.chdir(elsewhere)
    tuneoff("run", "--out", "moved", "--set", "diagnose={ranks: [1]}")
    results = {arm: json.loads((moved / f"trials/{arm}/seed-0/result.json").read_text()) for arm in ("full", "lora")}
    assert {result["status"] for result in results.values()} == {"done"}
    assert (moved / "trials/full/seed-0/diagnosis.json").is_file()
    assert "mine:same" in results["lora"]["scores"]

    command = shlex.split(json.loads((moved / "comparison.json").read_text())["ran"][0]["command"], comments=True)
    assert command == ["tuneoff", "run", str(moved / "recipe.yaml"), "--out", f"{moved}-again"]
    monkeypatch.chdir(tmp_path)
    tuneoff(*command[1:], "--arm", "full", "--set", "diagnose=off")
    again = json.loads(Path(f"{moved}-again/trials/full/seed-0/result.json").read_text())
    assert again["scores"] == results["full"]["scores"]

    (project / "data").unlink()  # what lies outside of the run stays where it was
    (moved / "trials/lora/seed-0/result.json").unlink()
    _, err = tuneoff("run", "--out", moved, status=2)
    assert f"no such folder or file: {project / 'data'}" in err
