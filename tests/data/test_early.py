"""Mistakes that are told before torch is loaded."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import recipe_values
from tuneoff.data.early import _enum_values, require_early
from tuneoff.errors import RecipeError
from tuneoff.model.methods import _config_classes
from tuneoff.recipe import load_recipe

ROWS = [{"id": str(n), "ticket": f"printer {n} is hot", "note": f"hot {n}"} for n in range(6)]


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A right recipe with its data, and folders that are no models."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "data").mkdir()
    for split in ("train", "validation", "test"):
        write_csv(folder / "data" / f"{split}.csv", ROWS)
    (folder / "empty.csv").touch()
    (folder / "head.csv").write_text("id,ticket,note\n")
    write_csv(folder / "other.csv", [{"id": "1", "ticket": "a", "notice": "b"}])
    rows = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]
    (folder / "chat.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "mine.py").write_text("def same(text, reference):\n    raise SystemExit('must not be loaded')\n")
    for name in ("bin", "bare", "gguf"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps({"architectures": ["T5ForConditionalGeneration"]}))
    (folder / "bin" / "pytorch_model.bin").touch()
    (folder / "gguf" / "m.Q8_0.gguf").touch()
    values = recipe_values(folder)
    values |= {"model": "builtin:dialog-t5-nano", "prompt": "Note: {ticket}"}
    values["data"] = {
        "source": {split: f"data/{split}.csv" for split in ("train", "validation", "test")},
        "input": "ticket", "target": "note",
    }  # fmt: skip
    values["evaluation"]["metrics"] = ["rouge1", "mine:same"]
    (folder / "t.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return folder


COLUMNS = "Its columns: id, ticket, note"
CHAT = "data={source: {train: chat.jsonl, test: chat.jsonl}, messages: message}"
MISTAKES: dict[str, tuple[list[str], str]] = {
    "no file": (
        ["data.source.train=data/trian.csv"],
        "data.source.train: no such file: {project}/data/trian.csv; did you mean 'train.csv'?",
    ),
    "no folder": (["data.source=./dat"], "data.source: no such folder or file: {project}/dat; did you mean 'data'?"),
    "one file": (["data.source=data/train.csv"], "data.source: {project}/data/train.csv is one file"),
    "empty": (["data.source.test=empty.csv"], "data.source.test: empty.csv is empty"),
    "header alone": (["data.source.test=head.csv"], "data.source.test: head.csv has no rows"),
    "column": (
        ["data.target=notes"],
        f"data.target: no column 'notes' in train.csv; did you mean 'note'? {COLUMNS}",
    ),
    "column of one file": (
        ["data.source.test=other.csv"],
        "data.target: no column 'note' in other.csv; did you mean 'notice'? Its columns: id, ticket, notice",
    ),
    "column of a folder": (
        ["data.source=data", "data.target=notes"],
        f"data.target: no column 'notes' in the files in {{project}}/data; did you mean 'note'? {COLUMNS}",
    ),
    "column of messages": (
        [CHAT, "prompt=null"],
        "data.messages: chat.jsonl: the data has no column 'message'; it has messages",
    ),
    "placeholder": (
        ['prompt="{ticket} {nte}"'],
        f"prompt: {{nte}}: no column 'nte' in train.csv; did you mean 'note'? {COLUMNS}",
    ),
    "input's placeholder": (['prompt="{tickt}"'], "the prompt must contain the input column {ticket}, and has {tickt}"),
    "method": (["arms.lora.method=lorra"], "arms.lora.method: no method 'lorra'; did you mean 'lora'?"),
    "metric": (["evaluation.metrics=[rogue1]"], "evaluation.metrics.0: there is no metric 'rogue1'; did you mean "),
    "own metric": (
        ["evaluation.metrics=['mine:sam']"],
        "evaluation.metrics.0: {project}/mine.py has no function 'sam'; did you mean 'same'?",
    ),
    "module": (
        ["evaluation.metrics=['mien:same']"],
        "evaluation.metrics.0: there is no module 'mien' for the metric 'mien:same' in {project}; did you mean 'mine'?",
    ),
    "scheduler": (
        ["training.lr_scheduler_type=lineal"],
        "training.lr_scheduler_type: no scheduler 'lineal'; did you mean 'linear'?",
    ),
    "model": (["model=./bim"], "model.name: no such folder: {project}/bim; did you mean 'bin'?"),
    "model without safetensors": (
        ["model=./bin"],
        'model: {project}/bin has pytorch_model.bin only; tuneoff loads safetensors. Convert: python -c "from '
        "transformers import T5ForConditionalGeneration as M; ",
    ),
    "model without weights": (["model=./bare"], "model: {project}/bare has no weights (model.safetensors)"),
    "a GGUF": (["model=./gguf"], "model: {project}/gguf has m.Q8_0.gguf only: name it as the model, "),
    "no model": (["model=./data"], "model: {project}/data is no model's folder: it has no config.json"),
    "no GGUF": (
        ["model={name: ./gguf, gguf: m.Q4_0.gguf}"],
        "model.gguf: no such file: {project}/gguf/m.Q4_0.gguf; did you mean 'm.Q8_0.gguf'?",
    ),
    "builtin": (["model=builtin:dialog-t5-nan"], "model.name: nothing called 'builtin:dialog-t5-nan' ships"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_file_line_key_and_what_would_be_right(
    mistake: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    settings, message = MISTAKES[mistake]
    with pytest.raises(RecipeError) as raised:
        loaded = load_recipe("t.yaml", settings)
        try:
            require_early(loaded.recipe, weights=True)
        except RecipeError as error:
            raise loaded.locate(error) from None
    (told,) = str(raised.value).splitlines()
    place, _, rest = told.partition(": ")
    assert place.startswith("t.yaml:") and place.removeprefix("t.yaml:").isdigit()
    assert rest.startswith(message.replace("{project}", str(project)))


def test_all_of_them_are_told_at_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    recipe = load_recipe("t.yaml", ["model=./bim", "arms.lora.method=lorra", "data.source.test=gone.csv"]).recipe
    with pytest.raises(RecipeError) as raised:
        require_early(recipe)
    assert [problem.path for problem in raised.value.problems] == [
        ("arms", "lora", "method"), ("model", "name"), ("data", "source", "test"),
    ]  # fmt: skip


def test_what_is_right_or_cannot_be_told_yet_is_left_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    require_early(load_recipe("t.yaml").recipe, weights=True)
    require_early(load_recipe("t.yaml", ["model=./bare"]).recipe)  # a plan needs no weights
    require_early(load_recipe("t.yaml", ["model=org/name", "data.source=org/data"]).recipe, weights=True)
    untrained = ["arms={original: {method: none}}", "data.source.train=other.csv"]
    require_early(load_recipe("t.yaml", untrained).recipe, weights=True)  # which does not read that file
    rows: list[dict[str, Any]] = [{"ticket": "a", "note": "b"}] * 300 + [{"ticket": "a", "note": "b", "more": "c"}]
    (project / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    late = ["data.source.train=long.jsonl", 'prompt="{ticket} {more}"', "data.source.test=long.jsonl"]
    require_early(load_recipe("t.yaml", [*late, "data.source.validation=long.jsonl"]).recipe)


def test_the_names_that_are_read_are_those_of_the_libraries() -> None:
    from transformers.trainer_utils import SchedulerType

    methods = _enum_values("peft", "utils/peft_types.py", "PeftType")
    assert {name.lower() for name in methods} == set(_config_classes())
    schedulers = _enum_values("transformers", "trainer_utils.py", "SchedulerType")
    assert schedulers == [kind.value for kind in SchedulerType]


COMMANDS = """
import json, sys
from typer.testing import CliRunner
from tuneoff.cli.main import app

for arguments in json.loads(sys.argv[1]):
    result = CliRunner().invoke(app, arguments)
    heavy = sorted({"torch", "transformers", "peft", "datasets"} & set(sys.modules))
    print(json.dumps([str(result.exception), result.exit_code, heavy]))
"""


def test_no_command_loads_torch_before_it_tells_them(project: Path) -> None:
    commands = [
        ["run", "t.yaml", "--out", "new", *(part for setting in settings for part in ("--set", setting))]
        for settings, _ in MISTAKES.values()
    ]
    commands += [
        ["plan", "t.yaml", "--set", "data.target=notes"],
        ["plan", "t.yaml", "--device", "H100"],
        ["data", "t.yaml", "--set", "data.target=notes"],
        ["run", "--out", "nothing"],
        ["export", "nothing", "--arm", "a", "--to", "b", "--format", "merged"],
        ["generate", "nothing", "--arm", "a"],
        ["serve", "nothing", "--arm", "a"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)], cwd=project, env=os.environ, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(commands)
    for command, (message, status, heavy) in zip(commands, told, strict=True):
        assert (status, heavy) == (1, []), (command, message)  # an exception, which `main` turns into status 2
        assert message
    assert not (project / "new").exists()
