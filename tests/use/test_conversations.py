"""A run on conversations: trained, scored, and used by every way that a run is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from tests.conftest import MODELS, dialogue, write_jsonl
from tests.data.test_chat import CHATML, tokenizer
from tests.runner.resolving import begin, resolved_for
from tests.runner.test_trial import carry_out
from tuneoff.cli.main import app
from tuneoff.folder import RunFolder
from tuneoff.recipe import trials
from tuneoff.records import Prediction, read_predictions
from tuneoff.report.comparison import compare
from tuneoff.report.table import notes
from tuneoff.use.serve.app import create_app
from tuneoff.use.serve.arms import choose_arms
from tuneoff.use.serve.batches import Batches
from tuneoff.use.serve.messages import Limits
from tuneoff.use.writer import Writer


def talk(number: int) -> list[dict[str, str]]:
    """Every other has a system and an earlier question."""
    text, answer, other = dialogue(number)
    turns = [("user", f"Who buys what?\n{text}"), ("assistant", answer)]
    if number % 2:
        turns = [("system", "Sum up."), ("user", text[:30]), ("assistant", other), *turns]
    return [{"role": role, "content": content} for role, content in turns]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("talks")
    tokenizer(CHATML).save_pretrained(folder / "tokenizer")
    for split, numbers in (("train", range(24)), ("validation", range(100, 103)), ("test", range(200, 205))):
        write_jsonl(folder / f"{split}.jsonl", [{"id": f"{split}_{n}", "messages": talk(n)} for n in numbers])
    values = {
        "model": {"config": {**MODELS["causal"], "initializer_range": 0.2}, "tokenizer": str(folder / "tokenizer")},
        "data": {"source": str(folder), "max_source_length": 150, "train_on": "all"},
        "arms": {
            "original": {"method": "none"},
            "lora": {"method": "lora", "learning_rate": 0.02, "r": 8, "target_modules": "all-linear"},
        },
        "training": {"epochs": 1, "examples_per_step": 8, "precision": "fp32"},
        "evaluation": {"max_new_tokens": 12, "batch_size": 4},
    }
    recipe, made = begin(values, folder / "run")
    resolved = resolved_for(recipe, made)
    assert resolved.data["train"].examples == 36 and 0 < resolved.data["test"].truncated_inputs < 5
    for trial in trials(recipe):
        carry_out(made, resolved, trial)
    return made


@pytest.fixture(scope="module")
def predictions(run: RunFolder) -> list[Prediction]:
    found = read_predictions(run.trial("lora", 0).predictions)
    assert len({p.prediction for p in found}) > 1
    return found


def test_the_table_says_how_it_was_asked(run: RunFolder, predictions: list[Prediction]) -> None:
    comparison, _ = compare(run)
    assert any("OpenAI (messages: role, content)" in note for note in notes(comparison))
    assert predictions[1].input.startswith("system: Sum up.\nuser: ")
    assert predictions[0].references == [dialogue(200)[1]]


def test_generate_writes_what_the_trial_wrote(run: RunFolder, predictions: list[Prediction], tmp_path: Path) -> None:
    file = tmp_path / "asked.jsonl"
    write_jsonl(file, [{"messages": talk(n)} for n in range(200, 205)])
    result = CliRunner().invoke(app, ["generate", str(run.path), str(file), "--arm", "lora"])
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["prediction"] for line in lines] == [p.prediction for p in predictions]
    assert lines[0]["messages"] == talk(200)


@pytest.mark.parametrize("format", ["adapter", "ctranslate2"])
def test_an_export_is_verified(run: RunFolder, format: str, tmp_path: Path) -> None:
    """By its card's own code, in a process where tuneoff is missing."""
    arguments = ["export", str(run.path), "--arm", "lora", "--to", str(tmp_path / "it"), "--format", format]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    assert "verified on 5 test examples: 5 outputs are identical to the run's" in result.stdout
    card = (tmp_path / "it" / "README.md").read_text(encoding="utf-8")
    assert "It answers the last turn of a conversation." in card and 'generate([{"role": "user"' in card


def test_the_server_takes_what_a_user_says_and_whole_conversations(
    run: RunFolder, predictions: list[Prediction]
) -> None:
    served = choose_arms(run, ["lora"])
    writer = Writer(served.arms[0])
    batches = Batches(lambda _: writer, ["lora"], 4, 100)
    with TestClient(create_app(served, 1, batches, Limits()), base_url="http://127.0.0.1") as client:
        about = client.get("/api/arms").json()
        assert (about["columns"], about["prompt"]) == (["messages"], None)
        examples = client.get("/api/examples").json()
        assert examples[0]["row"]["messages"] == f"Who buys what?\n{dialogue(200)[0]}"
        answer: dict[str, Any] = client.post("/api/generate", json={"rows": [e["row"] for e in examples]}).json()
        assert [row["lora"]["text"] for row in answer["rows"]] == [p.prediction for p in predictions]
