"""`tuneoff init`: a recipe for one's own data that passes `tuneoff data` and runs as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas
import pytest
import yaml
from typer.testing import CliRunner

from tests.cli.commands import tuneoff
from tests.conftest import write_jsonl
from tuneoff.cli.main import app
from tuneoff.errors import TuneoffError
from tuneoff.recipe import Recipe, read_recipe

NANO = "builtin:dialog-t5-nano"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def init(*arguments: str | Path) -> tuple[Recipe, str]:
    """The recipe that was written to recipe.yaml, and what was said."""
    result = CliRunner().invoke(app, ["init", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return read_recipe(Path("recipe.yaml")).recipe, result.stdout


def mistake(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["init", *map(str, arguments)])
    assert isinstance(result.exception, TuneoffError), result.output
    return str(result.exception)


def tickets(count: int = 40) -> pandas.DataFrame:
    things, faults = ("Drucker", "Tür", "Schlüssel"), ("geöffnet", "defekt")
    return pandas.DataFrame(
        {
            "Nr": range(count),
            "Anfrage": [f"Mein {things[n % 3]} Nr. {n} ist {faults[n % 2]}; was nun?" for n in range(count)],
            "Lösung": [f"{things[n % 3]} {n} prüfen." for n in range(count)],
        }
    )


def test_a_csv_of_european_excel_goes_from_init_to_a_report(tmp_path: Path) -> None:
    tickets().to_csv("tickets.csv", index=False, sep=";", encoding="cp1252")
    recipe, said = init("tickets.csv", "--model", NANO)
    assert "tickets.csv is read as cp1252 (as in 'Lösung') and with ';' between its columns" in said
    assert "columns: input 'Anfrage', target 'Lösung' (input by its name, target by its name); left aside: Nr" in said
    assert "split: train 24, validation 8, test 8 examples; the same input is never in two of them" in said
    assert said.rstrip().endswith("tuneoff run recipe.yaml  # compare the arms")
    assert (recipe.data.delimiter, recipe.data.encoding) == (";", "cp1252")
    assert (recipe.prompt, recipe.evaluation.metrics[0]) == ("{Anfrage}\n\nLösung:", "chrf")
    out, _ = tuneoff("data", "recipe.yaml", "--n", "1")
    assert "24 rows, 24 examples, 24 references" in out and "warning" not in out
    short = ["training.max_steps=1", "training.precision=fp32", "diagnose=off", "evaluation.max_new_tokens=4"]
    values = yaml.safe_load(Path("recipe.yaml").read_text(encoding="utf-8"))
    short.append(f"arms={json.dumps({'lora': values['arms']['lora']})}")  # one arm is quicker than three
    tuneoff("run", "recipe.yaml", "--out", "run", *(part for one in short for part in ("--set", one)))
    lines = Path("run/trials/lora/seed-0/predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 8 and all(json.loads(line)["input"].startswith("Mein ") for line in lines)
    assert Path("run/report.html").is_file()


def test_conversations_have_no_prompt() -> None:
    turns = [({"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}!"}) for n in range(20)]
    write_jsonl(Path("chats.jsonl"), [{"messages": both} for both in turns])
    recipe, said = init("chats.jsonl", "--model", NANO)
    assert "conversations: OpenAI (messages: role, content)" in said
    assert recipe.data.has_conversations and recipe.prompt is None
    assert "12 rows, 12 examples" in tuneoff("data", "recipe.yaml", "--n", "1")[0]


def test_a_folder_keeps_its_own_splits(data_folder: Path) -> None:
    recipe, said = init(data_folder)
    assert recipe.data.split is None and recipe.data.source == str(data_folder)
    assert "split: train 40, validation 6, test 5 examples" in said
    assert recipe.prompt == "Summarize the following dialogue.\n{dialogue}\nSummary:"
    assert (recipe.words.example, recipe.words.output) == ("dialogue", "summary")
    assert recipe.evaluation.metrics == ["rouge1", "rouge2", "rougeL"]
    assert "inputs, in characters:" in said  # no tokenizer of that model is here


@pytest.mark.parametrize(("count", "test", "share"), [(300, 30, 0.1), (12_000, 1000, 1000)])
def test_the_split_follows_the_number_of_inputs(count: int, test: int, share: Any) -> None:
    write_jsonl(Path("all.jsonl"), [{"text": f"A text {n}", "label": ("good", "bad")[n % 2]} for n in range(count)])
    recipe, said = init("all.jsonl")
    assert recipe.data.split is not None and recipe.data.split.test == share
    assert f"test {test:,} examples" in said
    assert recipe.evaluation.metrics == ["accuracy"]


def test_bad_rows_are_counted_and_left_out() -> None:
    table = tickets()
    table.loc[4, "Lösung"] = None
    table.to_csv("tickets.csv", index=False)
    recipe, said = init("tickets.csv")
    assert recipe.data.on_bad_row == "skip"
    assert "bad rows: 1 are left out (on_bad_row: skip); the first: tickets.csv:6 is empty in 'Lösung'" in said


def test_without_a_name_the_one_file_here_is_taken_and_nothing_is_overwritten(tmp_path: Path) -> None:
    assert mistake() == "name your data file (none is here): tuneoff init FILE"
    tickets().to_csv("a.csv.gz", index=False)
    recipe, _ = init()
    assert recipe.data.source == "a.csv.gz"
    before = Path("recipe.yaml").read_bytes()
    assert "recipe.yaml exists already" in mistake()
    assert Path("recipe.yaml").read_bytes() == before
    tickets().to_csv("b.csv", index=False)
    assert "there are a.csv.gz, b.csv" in mistake("--out", "other.yaml")
    result = CliRunner().invoke(app, ["init", "b.csv", "--out", "deep/other.yaml"])
    assert result.exit_code == 0
    assert read_recipe(Path("deep/other.yaml")).recipe.data.source == str((tmp_path / "b.csv").resolve())


def test_what_cannot_become_a_recipe_is_one_line() -> None:
    tickets(6).to_csv("few.csv", index=False)
    assert mistake("few.csv") == "few.csv has 6 distinct inputs, too few to split: 10 are the fewest"
    Path("empty.csv").write_text("")
    assert mistake("empty.csv") == "empty.csv is empty: its first line names the columns"
    assert mistake("fwe.csv") == "no such file: fwe.csv; did you mean 'few.csv'?"
    assert not Path("recipe.yaml").exists()
