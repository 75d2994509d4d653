from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tuneoff import __version__
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
        "report": {"runs", "--out"}, "generate": {"run", "file", "--arm", "--seed"},
        "serve": {"run", "--arm", "--port"},
        "export": {"run", "--arm", "--to", "--format", "--seed", "--push"},
        "plan": {"recipe", "--set", "--device", "--sweep", "--calibrate", "--json"},
    }  # fmt: skip


def commands() -> dict[str, object]:
    import typer.main

    return typer.main.get_command(app).commands  # type: ignore[attr-defined]


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
    assert capsys.readouterr().err.startswith(f"tuneoff: {tmp_path} is not the folder of a run")
