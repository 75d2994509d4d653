"""Tasks of every kind: a recipe each, from files to figures that were worked out by hand.

What a model would write is given, so that the figures are known; all else is done as in any run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MODELS, write_jsonl
from tests.runner.resolving import begin, resolved_for
from tests.runner.test_trial import carry_out
from tuneoff.decode.generate import Generated
from tuneoff.recipe import trials
from tuneoff.records import TrialResult
from tuneoff.report.comparison import compare
from tuneoff.report.table import table_cells, table_columns
from tuneoff.runner import evaluation


@dataclass(frozen=True)
class Task:
    """A recipe's own part, its test rows, what is written for each example, and the figures by hand.

    Attributes:
        warned: What a warning of the data says, where one is due.
        signed: Fields of the signature.
    """

    metrics: list[str]
    data: dict[str, Any]
    prompt: str | None
    rows: list[dict[str, Any]]
    written: list[str]
    figures: dict[str, float]
    signed: dict[str, str] = field(default_factory=dict)
    warned: str | None = None


def texts(rows: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"text": text, "short": short} for text, short in rows]


SHORTEN: dict[str, Any] = {"data": {"input": "text", "target": "short"}, "prompt": "{text}\n"}
CALL = '{"name": "book", "arguments": {"table": 2, "day": "Friday"}}'
CONTEXT = "Ada has lived in Kiel since 2019. Ben works in Bonn."

# fmt: off
TASKS = {
    # Letters count as words: 7 of 8 and 8 of 8 are shared.
    "Chinese": Task(
        ["rouge1", "chrf"], rows=texts([("甲:周五见。乙:好。", "他们星期五见面吧"), ("甲:走吗?", "他们去车站见面了")]),
        written=["他们星期五见面啊", "他们去车站见面了"], figures={"rouge1": (7 / 8 + 1) / 2},
        signed={"tok": "unicode"}, **SHORTEN,
    ),
    # 2 of 3 words, in any case of letters; no stemmer takes endings off.
    "Russian": Task(
        ["rouge1", "rouge2"], rows=texts([("А: Когда? Б: В пять.", "Они встретятся вечером")]),
        written=["они встретятся утром"], figures={"rouge1": 2 / 3, "rouge2": 1 / 2}, signed={"tok": "unicode"},
        **SHORTEN,
    ),
    # Umlauts stay within their words.
    "German": Task(
        ["rouge1", "exact_match"],
        rows=texts([("A: Wann? B: Um fünf.", "Sie möchten für Jörg früher gehen"), ("A: Nö.", "Er hört auf")]),
        written=["Sie mochten für Jörg früher gehen", "er hört auf!"],
        figures={"rouge1": (5 / 6 + 1) / 2, "exact_match": 1 / 2}, signed={"tok": "unicode"}, **SHORTEN,
    ),
    # Written without spaces: each letter with its marks is a word. 8 of 9 are shared.
    "Thai": Task(
        ["rouge1"], rows=texts([("ก: ไปไหม ข: ไป", "เขาไปตลาด")]), written=["เขาไปตลาง"],
        figures={"rouge1": 8 / 9}, signed={"tok": "unicode"}, **SHORTEN,
    ),
    # One context, three questions: three examples, the second with two answers, of which the better counts.
    "questions on a text": Task(
        ["exact_match", "token_f1"],
        data={"input": "context", "target": "answer"}, prompt="{context}\nQ: {question}\nA:",
        rows=[
            {"context": CONTEXT, "question": question, "answer": answer}
            for question, answer in [
                ("Where does Ada live?", "Kiel"), ("Since when?", "since 2019"), ("Since when?", "2019"),
                ("Where does Ben work?", "Bonn"),
            ]
        ],
        written=["in Kiel", "2019", "Kiel"],
        figures={"exact_match": 1 / 3, "token_f1": (2 / 3 + 1 + 0) / 3},
    ),
    # Right; right in other letters with a word around it; a text that names two labels; another label.
    "classification": Task(
        ["accuracy"], data={"input": "review", "target": "label"}, prompt="{review}\nIs it positive or negative?",
        rows=[{"review": f"No. {n}", "label": label} for n, label in enumerate(["positive", "negative"] * 2)],
        written=["positive", "Label: Negative.", "positive or negative", "positive"], figures={"accuracy": 2 / 4},
        signed={"accuracy": "of-2-labels"},
    ),
    # As GSM8K has them: right with a comma, right as the last number, off by one.
    "word problems": Task(
        ["number"], data={"input": "question", "target": "answer"}, prompt="{question}\n",
        rows=[
            {"question": f"{n}?", "answer": f"So many.\n#### {value}"} for n, value in enumerate(["1200", "18", "7"])
        ],
        written=["It is 3 times 400.\n#### 1,200", "9 and 9 make 18.", "#### 8"], figures={"number": 2 / 3},
    ),
    # Three fields of three; two of three; no JSON.
    "calls of tools": Task(
        ["json_fields", "json_valid"], data={}, prompt=None,
        rows=[
            {"messages": [{"role": "user", "content": f"Two on Friday. {n}"}, {"role": "assistant", "content": CALL}]}
            for n in range(3)
        ],
        written=[f"```json\n{CALL}\n```", CALL.replace("2", "3"), "I book a table."],
        figures={"json_fields": (1 + 2 / 3 + 0) / 3, "json_valid": 2 / 3},
    ),
    # Nothing that ASCII metrics see: a warning, and no figure to judge by.
    "symbols": Task(
        ["rouge1"], rows=texts([("a", "🙂🙂"), ("b", "🙁")]), written=["🙂", "🙁"], figures={"rouge1": 0.0},
        warned="2 references without a word that ROUGE sees", **SHORTEN,
    ),
}
# fmt: on


@pytest.mark.parametrize("name", TASKS)
def test_figures_are_those_worked_out_by_hand(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TASKS[name]
    write_jsonl(tmp_path / "data" / "train.jsonl", [task.rows[0]])
    write_jsonl(tmp_path / "data" / "test.jsonl", task.rows)
    values = {
        "model": {"config": MODELS["seq2seq"], "tokenizer": {"vocab_size": 300}},
        "data": {"source": str(tmp_path / "data"), "allow_overlap": True, **task.data},
        "arms": {"original": {"method": "none"}},
        "training": {"precision": "fp32"},
        "evaluation": {"metrics": task.metrics},
        **({"prompt": task.prompt} if task.prompt is not None else {}),
    }
    recipe, folder = begin(values, tmp_path / "run")
    resolved = resolved_for(recipe, folder)
    assert resolved.data["test"].examples == len(task.written)
    monkeypatch.setattr(
        evaluation, "generate", lambda *_, **__: [Generated(text, truncated=False, tokens=3) for text in task.written]
    )
    (trial,) = trials(recipe)
    result: TrialResult = carry_out(folder, resolved, trial)
    comparison, _ = compare(folder)
    assert result.scores is not None and comparison.arms[0].scores is not None
    for metric, figure in task.figures.items():
        assert comparison.arms[0].scores[metric] == pytest.approx(figure), metric
    fields = dict(part.split(":", 1) for part in str(result.signature).split("|"))
    assert task.signed.items() <= fields.items()
    if task.warned is not None:
        assert any(task.warned in warning for warning in resolved.warnings), resolved.warnings
    shown = dict(zip(table_columns(comparison), table_cells(comparison.arms[0], comparison), strict=True))
    assert len(shown) == 3 + len(task.metrics)
    lines = (folder.trial("original", 0).predictions).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["prediction"] for line in lines] == task.written
