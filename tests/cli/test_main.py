from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.report.made import made_run
from tuneoff import __version__
from tuneoff.cli import export
from tuneoff.cli.main import app, main
from tuneoff.recipe import shipped_recipes


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_commands_and_flags_are_these() -> None:
    """Settings live in the recipe; a new flag is a decision."""
    flags = {name: {o for p in c.params for o in p.opts} for name, c in commands().items()}
    assert flags == {
        "run": {"recipe", "--out", "--set", "--arm", "--force", "--json"}, "show": {"run", "--json"}, "recipes": set(),
        "report": {"runs", "--out", "--export"}, "watch": {"run", "--port"},
        "score": {"run", "--metric", "--json"}, "fetch": {"name"},
        "diagnose": {"run", "--json"},
        "generate": {"run", "file", "--arm", "--seed", "--out"}, "init": {"data", "--out", "--model"},
        "serve": {"run", "--arm", "--port"}, "data": {"recipe", "--split", "--n", "--set"},
        "export": {"run", "--arm", "--to", "--format", "--seed", "--push"},
        "help": {"command"},
        "plan": {"recipe", "--set", "--device", "--sweep", "--calibrate", "--power", "--json"},
    }  # fmt: skip


def commands() -> dict[str, object]:
    import typer.main

    return typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", [None, "run", "export"])
def test_help_is_asked_for_in_three_ways(command: str | None) -> None:
    own = [command] if command else []
    printed = invoke(*own, "--help")
    assert invoke(*own, "-h") == invoke("help", *own).rstrip("\n") + "\n" == printed
    assert f"Usage: {' '.join(['tuneoff', *own])} " in printed


def test_help_of_a_command_that_is_not_there_names_the_near_one() -> None:
    result = CliRunner().invoke(app, ["help", "plam"])
    assert str(result.exception) == "there is no command 'plam'; did you mean 'plan'?"


@pytest.mark.parametrize(
    ("line", "expected"),
    [("tuneoff ex", ["export"]), ("tuneoff export run --format me", ["merged"]), ("tuneoff data --sp", ["--split"])],
)
def test_the_shell_completes(line: str, expected: list[str]) -> None:
    asked = {"_TUNEOFF_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    result = CliRunner().invoke(app, [], prog_name="tuneoff", env=asked)
    assert result.stdout.split() == expected


def test_the_formats_that_are_offered_are_those_that_there_are() -> None:
    from tuneoff.use.export.exporting import FORMATS

    assert tuple(FORMATS) == export.FORMATS


def test_version_and_recipes() -> None:
    assert invoke("--version") == f"tuneoff {__version__}\n"
    printed = invoke("recipes")
    assert all(name in printed for name in shipped_recipes())


@pytest.mark.parametrize("module", ["tuneoff.cli.main", "tuneoff.report.page", "tuneoff.runner.run", "tuneoff.recipe"])
def test_light_modules_stay_light(module: str) -> None:
    heavy = "{'torch', 'transformers', 'peft', 'datasets', 'accelerate', 'scipy', 'rouge_score'}"
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_mistake_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["tuneoff", "show", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"tuneoff: {tmp_path} holds no run")


def in_locale(settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "tuneoff", *arguments]
    return subprocess.run(command, capture_output=True, check=False, env={**os.environ, **settings})


C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.skipif(os.name != "posix", reason="the file system's names are UTF-8 elsewhere")
@pytest.mark.parametrize("settings", [C_LOCALE, {"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}])
def test_paths_and_what_machines_read_are_utf8_in_every_locale(settings: dict[str, str], tmp_path: Path) -> None:
    folder = made_run(tmp_path / "Läufe 对", dialogues=12).path
    done = in_locale(settings, "show", str(folder), "--json")
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout.decode())["run"] == str(folder)
    gone = in_locale(settings, "show", str(tmp_path / "nö"))
    assert gone.stderr.decode().startswith(f"tuneoff: {tmp_path}/nö holds no run")


@pytest.mark.skipif(sys.platform != "linux", reason="a file name that is no text in UTF-8")
def test_a_run_whose_name_is_no_text_is_shown(tmp_path: Path) -> None:
    folder = made_run(tmp_path / "made", dialogues=12).path.rename(tmp_path / os.fsdecode(b"run-\xff"))
    done = in_locale({}, "show", str(folder), "--json")
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout.decode())["run"].endswith("run-?")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
@pytest.mark.parametrize("arguments", [["recipes"], ["--version"]])
def test_a_full_disk_for_standard_output_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "tuneoff", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "tuneoff: cannot write (No space left on device)\n")


@pytest.mark.parametrize("recipe", ["", "."])
def test_what_is_no_recipe_does_not_start_the_demo(recipe: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["run", recipe, "--out", str(tmp_path / "run")])
    assert "no recipe of that name ships with tuneoff" in str(result.exception)
    assert not (tmp_path / "run").exists()
