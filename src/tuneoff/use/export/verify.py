"""Whether an export writes what its trial wrote: the card's own code is run, in a Python where tuneoff is missing."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from tuneoff.data.conversations import MESSAGES, as_turns
from tuneoff.data.prompt import Prompt
from tuneoff.decode.generate import generate
from tuneoff.errors import DataError, ExportError
from tuneoff.model.engines import engine_for
from tuneoff.model.quiet import quiet
from tuneoff.progress import ProgressListener
from tuneoff.recipe import Recipe
from tuneoff.records import Prediction, read_predictions
from tuneoff.report.card import Difference, Verification
from tuneoff.report.side_by_side import spread
from tuneoff.runner.finished import Finished
from tuneoff.score.metrics import Metric, Scorer, agreement, find_metrics, metric_of_texts
from tuneoff.use.export.merged import scored_dtype, scored_model

EXAMPLES = 20
# Rounding flips a token here and there, and a text goes on otherwise; a wrong model writes other texts throughout.
EXACT, HALF, FALL, AGREEMENT = 0.9, 0.5, 0.05, 0.5

PROGRAM = """
import contextlib, json, sys

sys.modules["tuneoff"] = None  # to import it is an error
task = json.load(sys.stdin)
names = {"__name__": "usage"}
with contextlib.redirect_stdout(sys.stderr):
    exec(compile(task["code"], "README.md", "exec"), names)
for asked in task["asked"]:
    with contextlib.redirect_stdout(sys.stderr):
        text = names["generate"](asked)
    print(json.dumps(text), flush=True)
"""


def verify(finished: Finished, folder: Path, code: str, tell: ProgressListener, in_fp32: bool) -> Verification:
    """Run `code` in `folder` for up to 20 scored examples, spread evenly, and compare. Raises ExportError.

    It fails where `failure` says so, or where the code does not run at all. Where the code computes `in_fp32` and the
    trial did not, what differs is compared with what the trial's weights write in fp32.
    """
    predictions = chosen(finished)
    rows = rows_of(finished.recipe, predictions)
    texts = run_code(code, folder, [_asked(finished.recipe, row) for row in rows], tell)
    evaluation = finished.recipe.evaluation
    every = read_predictions(finished.trial.predictions)
    metric = metric_of_texts(find_metrics(evaluation.metrics, evaluation.modules))
    verification = compare(evaluation.split, metric, metric.prepare([p.references for p in every]), predictions, texts)
    if verification.first_difference and in_fp32 and scored_dtype(finished).itemsize < 4:
        exact = written_in_fp32(finished, rows)
        same = sum(text == other for text, other in zip(texts, exact, strict=True))
        verification = verification.model_copy(update={"same_in_fp32": same})
    failed = failure(verification)
    if failed:
        first = verification.first_difference
        shown = f" First at {first.id}: {first.trial!r} when scored, {first.export!r} now." if first else ""
        raise ExportError(f"the export does not write what its trial wrote, and is not kept: {failed}.{shown}")
    return verification


def chosen(finished: Finished) -> list[Prediction]:
    """The examples to verify on: every one, or 20 spread evenly. Raises DamagedFileError."""
    scores = finished.result.scores
    return spread(read_predictions(finished.trial.predictions, scores.examples if scores else None), EXAMPLES)


def compare(
    split: str, metric: Metric, scorer: Scorer, predictions: Sequence[Prediction], texts: Sequence[str]
) -> Verification:
    """`texts` beside what the trial wrote for the same examples, by a metric of texts."""
    score = scorer.score
    assert score is not None
    pairs = list(zip(predictions, texts, strict=True))
    differing = [Difference(id=p.id, trial=p.prediction, export=text) for p, text in pairs if text != p.prediction]
    return Verification(
        split=split,
        examples=len(pairs),
        same=len(pairs) - len(differing),
        same_in_fp32=None,
        empty=sum(bool(p.prediction) and not text for p, text in pairs),
        metric=metric.label,
        score=metric.of_examples([score(text, p.references) for p, text in pairs]),
        trial_score=metric.of_examples([score(p.prediction, p.references) for p in predictions]),
        agreement=fmean(agreement(text, p.prediction) for p, text in pairs),
        first_difference=differing[0] if differing else None,
    )


def failure(v: Verification) -> str | None:
    """Why an export is no good, or None.

    It is none where a text is empty and the trial's is not. Else it is good where nine texts in ten are the trial's, or
    what its weights write in fp32. Else it is none where its score is more than 5 points under the trial's, or where
    fewer than half of the texts are the same and the words are mostly others.
    """
    if v.empty:
        return f"{v.empty} of {v.examples} texts are empty"
    same = max(v.same, v.same_in_fp32 or 0) / v.examples
    if same >= EXACT:
        return None
    if v.trial_score - v.score > FALL + 1e-9:
        return f"{v.metric} is {100 * v.score:.2f} on {v.examples} examples, and was {100 * v.trial_score:.2f}"
    if same < HALF and v.agreement < AGREEMENT:
        return (
            f"{v.same} of {v.examples} texts are the same, and they share {100 * v.agreement:.0f} % of their words "
            f"with the trial's, where {100 * AGREEMENT:.0f} % is asked for"
        )
    return None


def written_in_fp32(finished: Finished, rows: Sequence[Mapping[str, str]]) -> list[str]:
    """What the trial's weights write by this program's own search when they compute in fp32."""
    evaluation = finished.recipe.evaluation
    with quiet():
        model = scored_model(finished).float()
    outputs = generate(
        engine_for("plain", model, bf16=False),
        finished.tokenizer,
        [ids for ids, _ in finished.tokenization.prompts(rows)],
        max_new_tokens=evaluation.max_new_tokens,
        search=evaluation.search,
        batch_size=evaluation.batch_size,
        report=lambda *_: None,
        chat=finished.resolved.chat,
    )
    return [output.text for output in outputs]


def run_code(code: str, folder: Path, asked: Sequence[Any], tell: ProgressListener) -> list[str]:
    """What `generate` of `code` returns for each of `asked`, in a process whose working folder is `folder`."""
    with tempfile.TemporaryFile("w+") as task, tempfile.TemporaryFile("w+", errors="replace") as errors:
        json.dump({"code": code, "asked": list(asked)}, task)
        task.seek(0)
        command = [sys.executable, "-P", "-c", PROGRAM]
        process = subprocess.Popen(
            command, stdin=task, stdout=subprocess.PIPE, stderr=errors, cwd=folder, text=True, encoding="utf-8"
        )
        texts = []
        try:
            assert process.stdout is not None
            for line in process.stdout:
                texts.append(json.loads(line))
                tell.progress(len(texts), len(asked))
            status = process.wait()
        finally:
            process.kill()
            process.wait()
        if status:
            errors.seek(0)
            last = next((line.strip() for line in reversed(errors.readlines()) if line.strip()), f"status {status}")
            raise ExportError(f"the export's own code does not run, and it is not kept: {last}")
    return texts


def rows_of(recipe: Recipe, predictions: Sequence[Prediction]) -> list[dict[str, str]]:
    """The columns of the prompts that the trial saw, in the order of the prompt."""
    if recipe.data.input is None or recipe.prompt is None:
        return [p.columns for p in predictions]
    columns = list(dict.fromkeys(Prompt(recipe.prompt).columns))
    if set(columns) != {recipe.data.input} and not all(p.columns for p in predictions):
        raise DataError(
            "an older tuneoff kept the input column alone of a prompt that has others, so that no export of this run "
            "can be verified: run the recipe again"
        )
    return [{name: (p.columns or {recipe.data.input: p.input})[name] for name in columns} for p in predictions]


def _asked(recipe: Recipe, row: Mapping[str, str]) -> Any:
    """What the export's own code takes for a row: its columns, or a conversation as messages."""
    if recipe.prompt is not None:
        return dict(row)
    return [{"role": turn.role, "content": turn.content} for turn in as_turns(row[MESSAGES])]
