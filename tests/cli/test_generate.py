"""`tuneoff generate` on a finished run."""

from __future__ import annotations

import json
from pathlib import Path

import pandas
import pytest
from typer.testing import CliRunner

from tests.conftest import dialogue, recipe_values, write_jsonl
from tests.runner.resolving import begin, resolved_for
from tests.runner.test_trial import carry_out
from tuneoff.cli.main import app
from tuneoff.data.formats import GivenFormat
from tuneoff.data.rows import read_rows
from tuneoff.errors import TuneoffError
from tuneoff.recipe import trials


@pytest.fixture(scope="module")
def run(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe, folder = begin(recipe_values(data_folder), tmp_path_factory.mktemp("generate"))
    resolved = resolved_for(recipe, folder)
    for trial in trials(recipe):
        carry_out(folder, resolved, trial)
    return folder.path


def predictions(run: Path, arm: str) -> list[dict[str, str]]:
    lines = (run / "trials" / arm / "seed-0" / "predictions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def generate(*arguments: str | Path, given: str = "", mistake: bool = False) -> tuple[list[str], str]:
    """The lines written, and the message of the mistake that must have ended it, or none."""
    result = CliRunner().invoke(app, ["generate", *map(str, arguments)], input=given)
    message = ""
    if mistake:
        assert isinstance(result.exception, TuneoffError), result.output
        message = str(result.exception)
    else:
        assert result.exit_code == 0, result.output
    return result.stdout.splitlines(), message


@pytest.mark.parametrize("arm", ["original", "full", "lora"])
def test_it_writes_what_the_trial_wrote_in_order(run: Path, arm: str, tmp_path: Path) -> None:
    trial = predictions(run, arm)
    rows = [{"id": p["id"], "dialogue": p["input"], "note": "kept"} for p in trial]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    written = [json.loads(line) for line in generate(run, tmp_path / "rows.jsonl", "--arm", arm)[0]]
    assert [row.pop("prediction") for row in written] == [p["prediction"] for p in trial]
    assert written == rows


def test_it_reads_what_a_data_source_may_be(run: Path, tmp_path: Path) -> None:
    trial = predictions(run, "lora")
    rows = [{"dialogue": p["input"], "note": "größer"} for p in trial]
    table = pandas.DataFrame(rows)
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_csv(tmp_path / "excel.csv", index=False, sep=";", encoding="cp1252")
    table.to_csv(tmp_path / "a.csv.xz", index=False)
    table.to_json(tmp_path / "a.json", orient="records")
    table.to_parquet(tmp_path / "a.parquet", index=False)
    wanted = [{**row, "prediction": p["prediction"]} for row, p in zip(rows, trial, strict=True)]
    for name in ("a.csv", "excel.csv", "a.csv.xz", "a.json", "a.parquet"):
        lines, _ = generate(run, tmp_path / name, "--arm", "lora")
        assert [json.loads(line) for line in lines] == wanted, name


@pytest.mark.parametrize("name", ["out.csv", "out.tsv", "out.parquet", "out.jsonl"])
def test_out_is_a_table_with_the_predictions(run: Path, tmp_path: Path, name: str) -> None:
    trial = predictions(run, "lora")
    rows = [{"id": str(n), "dialogue": p["input"]} for n, p in enumerate(trial)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    lines, _ = generate(run, tmp_path / "rows.jsonl", "--arm", "lora", "--seed", "0", "--out", tmp_path / name)
    wanted = [{**row, "prediction": p["prediction"]} for row, p in zip(rows, trial, strict=True)]
    found = list(read_rows(tmp_path / name, GivenFormat(quoted_tsv=True)))
    assert lines == [] and [row.columns for row in found] == wanted


def test_out_checks_everything_before_it_writes_anything(run: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"dialogue": dialogue(200)[0]}) + "\n{\n")
    assert (
        "rows.jsonl:2 is not JSON" in generate(run, rows, "--arm", "lora", "--out", tmp_path / "a.csv", mistake=True)[1]
    )
    assert not (tmp_path / "a.csv").exists()
    assert "exists already" in generate(run, rows, "--arm", "lora", "--out", rows, mistake=True)[1]
    assert "nothing is written as '.xlsx'" in generate(run, rows, "--arm", "lora", "--out", "a.xlsx", mistake=True)[1]


def test_a_table_is_never_taken_for_text(run: Path, tmp_path: Path) -> None:
    table = "dialogue,note\nAnn: So?,x\n"
    _, told = generate(run, "--arm", "lora", given=table, mistake=True)
    assert told.startswith("standard input begins with the name of the column 'dialogue', as a table does")
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04\x00\x00")
    _, told = generate(run, tmp_path / "a.xlsx", "--arm", "lora", mistake=True)
    assert "no reader for '.xlsx'; text, or .jsonl, .json, .csv" in told
    (tmp_path / "b.csv").write_text("dialog,note\na,b\n")
    _, told = generate(run, tmp_path / "b.csv", "--arm", "lora", mistake=True)
    assert told == "b.csv:2 has no text in 'dialogue'; its columns are dialog, note"


def test_text_has_an_empty_line_between_dialogues(run: Path) -> None:
    given = "\n\n\n".join(dialogue(n)[0] for n in (200, 201, 202)) + "\n"
    lines, _ = generate(run, "--arm", "lora", given=given)
    assert lines == [" ".join(p["prediction"].split()) for p in predictions(run, "lora")[:3]]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("{", "standard input:2 is not JSON"),
        ("[1]", "standard input:2 is no JSON object"),
        ('{"text": "x"}', "standard input:2 has no text in 'dialogue'"),
        ('{"dialogue": null}', "standard input:2 has no text in 'dialogue'"),
    ],
)
def test_a_bad_line_is_told_and_what_stands_before_it_is_written(run: Path, bad: str, message: str) -> None:
    good = json.dumps({"dialogue": dialogue(200)[0]})
    lines, told = generate(run, "--arm", "lora", given=f"{good}\n{bad}\n{good}\n", mistake=True)
    assert len(lines) == 1
    assert told.startswith(message)


def test_other_mistakes_are_one_line(run: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((run, "--arm", "loro"), "has no arm 'loro'; did you mean 'lora'?"),
        ((run, "--arm", "lora", "--seed", "7"), "has no seed 7; the choices are: 0"),
        ((tmp_path, "--arm", "lora"), "holds no run"),
        ((run, tmp_path / "nowhere.txt", "--arm", "lora"), "cannot read: No such file or directory"),
        ((run, "--arm", "lora"), "is empty: an input as text, or jsonl with dialogue"),
    ):
        _, told = generate(*arguments, given=" \n", mistake=True)
        assert message in told and "\n" not in told
