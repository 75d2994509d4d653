"""A run's folder as a run would leave it, made in milliseconds: figures and texts by hand."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.conftest import recipe_values
from tuneoff.folder import RunFolder, write_json, write_lines
from tuneoff.recipe import Recipe, write_recipe
from tuneoff.records import (
    ChosenEngine,
    Failure,
    Memory,
    Parameters,
    PhaseMemory,
    Prediction,
    Resolved,
    SplitStatistics,
    TrialResult,
)
from tuneoff.score.metrics import find_metrics
from tuneoff.score.summary import scored, summarise

WORDS = "the parcel comes on monday because a train was late and nobody had a key for that door".split()  # noqa: SIM905
LEVELS = {"original": 0.25, "full": 0.75, "lora": 0.7}
PARAMETERS = {"original": 0, "full": 247_577_856, "lora": 3_538_944}
METRICS = find_metrics(["rouge1", "rouge2", "rougeL"])
NASTY = [
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\"> & <b>bold</b>",
    "emoji 🎈🧵, right to left: שלום עולם, and a zero\u200bwidth space",
    "{{ 7 * 7 }} {% raw %} ${title} `code`",
]


def made_run(
    path: Path, *, dialogues: int = 60, failed: str | None = None, extra: list[str] | None = None
) -> RunFolder:
    """A run of three arms; `failed` died, and `extra` texts stand in dialogues, references and summaries."""
    folder = RunFolder(path)
    recipe = Recipe.model_validate(recipe_values(path))
    write_recipe(recipe, folder.recipe)
    write_json(folder.environment, {"cpu": "A <cpu> & more", "packages": {"torch": "2.13.0"}})
    statistics = SplitStatistics(
        rows=dialogues, examples=dialogues, references=dialogues, skipped_rows=0, duplicate_rows=0, truncated_inputs=0,
        truncated_targets=0, input_tokens=9, target_tokens=9, non_ascii_references=0, content_sha256="0" * 64,
    )  # fmt: skip
    Resolved(
        directory=str(path), recipe=recipe.model_dump(mode="json"), model_path="m", model_revision=None,
        model_sha256="1" * 64, model_class="seq2seq", tokenizer_path="m", tokenizer_revision=None,
        tokenizer_sha256="2" * 64, data_revision=None, tokens={}, data={"test": statistics},
        engines=dict.fromkeys(LEVELS, ChosenEngine(name="t5", reason="the fastest that all arms share")),
        precision="fp32", precision_reason="as the recipe says", micro_batch=8,
        learning_rates={name: arm.learning_rate for name, arm in recipe.arms.items()}, warnings=[],
    ).write(folder.resolved)  # fmt: skip
    for arm in LEVELS:
        _trial(folder, arm, recipe.arms[arm].settings, dialogues, extra or [], failed=arm == failed)
    return folder


def _trial(
    folder: RunFolder, arm: str, settings: dict[str, Any], dialogues: int, extra: list[str], failed: bool
) -> None:
    own = folder.trial(arm, 0)
    method = {"original": "none"}.get(arm, arm)
    if failed:
        failure = Failure(kind="out of memory", message="killed by the system for want of memory (SIGKILL)", log="")
        TrialResult(arm=arm, seed=0, status="failed", method=method, settings={}, failure=failure).write(own.result)
        return
    predictions = [_prediction(arm, n, extra) for n in range(dialogues)]
    write_lines(own.predictions, (p.model_dump() for p in predictions))
    trains = method != "none"
    mebi = 2**20
    memory = PhaseMemory(
        peak=900 * mebi if arm == "full" else 300 * mebi,
        process_peak=1500 * mebi,
        components={"weights": 200 * mebi, "gradients": 0 if arm == "lora" else 200 * mebi, "activations": 90 * mebi},
    )
    TrialResult(
        arm=arm,
        seed=0,
        status="done",
        method=method,
        settings=settings,
        parameters=Parameters(trainable=PARAMETERS[arm], total=251_116_800),
        seconds={"load": 2.0, "tokenise": 0.1, "train": 100.0 if trains else 0.0, "evaluate": 10.0, "save": 0.5},
        memory=Memory(train=memory if trains else None, evaluate=memory),
        scores=summarise(predictions, METRICS),
        signature="metric:rouge_score|n:60|seed:0",
    ).write(own.result)
    if trains:
        lines = [{"step": s, "loss": 5 - s / 40, "train_seconds": s / 2} for s in range(2, 101, 2)]
        lines.append({"step": 100, "eval_loss": 2.9, "train_seconds": 50.0})
        own.history.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _prediction(arm: str, number: int, extra: list[str]) -> Prediction:
    """A summary that has about the arm's share of its reference's words."""
    rng = random.Random(number)
    text = extra[number % len(extra)] if extra and number % 3 == 0 else ""
    reference = " ".join(rng.sample(WORDS, 10)) + f" {text}"
    own = random.Random(f"{arm}/{number}")
    level = min(1.0, max(0.0, own.gauss(LEVELS[arm], 0.15)))
    written = " ".join(word if own.random() < level else "otherwise" for word in reference.split())
    prediction = Prediction(
        id=f"test_{number}",
        input=f"#Person1#: {' '.join(rng.sample(WORDS, 12))}?\n#Person2#: {text or 'Yes.'}",
        references=[reference],
        prediction=written,
        truncated=number == 1,
        scores={},
    )
    return scored(prediction, {metric.name: metric.prepare([[reference]]) for metric in METRICS})
