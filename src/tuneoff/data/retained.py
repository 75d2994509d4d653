"""Texts that a model should go on to know: those that ship, or the user's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tuneoff.data.prompt import Prompt
from tuneoff.data.rendering import TemplateRendering
from tuneoff.data.rows import Row, read_rows
from tuneoff.data.tokens import IGNORED, Tokenization
from tuneoff.errors import DataError
from tuneoff.records import RetainedMark

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHIPPED = Path(__file__).parent.parent / "builtin" / "retained.jsonl"
COLUMNS = "`text`, or `input` and `target` (and may have `kind`)"


@dataclass(frozen=True)
class RetainedText:
    """A text by itself, or the `target` that should follow an `input`. `kind` is what it is reported under."""

    kind: str
    text: str
    target: str | None = None


def retained_texts(path: str | None) -> list[RetainedText]:
    """The texts of a file (jsonl, json, csv, tsv or parquet), or without one those that ship.

    Raises DataError where the file cannot be read, and names the row that has no such columns.
    """
    texts = [_retained_text(row) for row in read_rows(Path(path) if path is not None else SHIPPED)]
    if len(texts) < 2:
        raise DataError(f"{path}: evaluation.retain needs at least two texts to say how sure their loss is")
    return texts


def texts_sha256(texts: Sequence[RetainedText]) -> str:
    """The hash of the texts and their kinds."""
    return hashlib.sha256(json.dumps([[t.kind, t.text, t.target] for t in texts]).encode()).hexdigest()


@dataclass(frozen=True)
class RetainedRows:
    """Retained texts as a model reads them.

    Attributes:
        rows: Each with `input_ids` and `labels`.
        mark: What is noted of them.
        asked: The token ids that a model is asked by for each text that has a target, and that target.
    """

    rows: list[dict[str, list[int]]]
    mark: RetainedMark
    asked: list[tuple[list[int], str]]


def retained_rows(
    texts: Sequence[RetainedText], source: str | None, tokenizer: PreTrainedTokenizerBase, tokenization: Tokenization
) -> RetainedRows:
    """The texts as a model of the run's `tokenization` reads them.

    A decoder-only model is scored on a whole text, with the special tokens of its tokenizer and no chat template; an
    encoder-decoder model reads the first half of a text and is scored on the rest. Of a text with a target the target
    is scored, after the input as the user's turn of the model's chat template, if it has one. Texts are cut at the
    run's lengths. Raises DataError where a text has nothing to be scored on.
    """
    rows, conditioned, asked = [], [], []
    for number, text in enumerate(texts, start=1):
        prompt, row, how = _row(text, tokenizer, tokenization)
        if text.target is not None:
            asked.append((prompt, text.target))
        if not _scored(row):
            raise DataError(f"evaluation.retain, text {number}: {text.text[:60]!r} is too short to be scored")
        rows.append(row)
        conditioned.append(how)
    mark = RetainedMark(
        source=source or "builtin",
        sha256=texts_sha256(texts),
        kinds=[text.kind for text in texts],
        tokens=[_scored(row) for row in rows],
        conditioned=conditioned,
    )
    return RetainedRows(rows, mark, asked)


def _row(
    text: RetainedText, tokenizer: PreTrainedTokenizerBase, run: Tokenization
) -> tuple[list[int], dict[str, list[int]], Literal["whole", "rest", "target"]]:
    """What a model is asked by, the row that its loss is of, and what of the text that is."""
    chat = run.chat if text.target is not None else None
    rendering = TemplateRendering(Prompt("{input}"), "input", chat)
    own = Tokenization(tokenizer, run.model_class, rendering, run.max_source_length, run.max_target_length, chat)
    if text.target is None and run.model_class == "causal":
        ids: list[int] = tokenizer(text.text, verbose=False)["input_ids"][: run.max_source_length]
        return [], {"input_ids": ids, "labels": [IGNORED, *ids[1:]]}, "whole"
    before, target = (text.text, text.target) if text.target is not None else _halves(text.text)
    (prompt, _), *_ = own.prompts([{"input": before}])
    (row,) = own.with_targets(prompt, [target])
    return prompt, row, "target" if text.target is not None else "rest"


def _halves(text: str) -> tuple[str, str]:
    """A text's first half and the rest, parted at the space nearest to its middle."""
    middle = len(text) // 2
    spaces = [place for place, letter in enumerate(text) if letter.isspace()]
    place = min(spaces, key=lambda at: abs(at - middle), default=middle)
    return text[:place], text[place:].strip()


def _scored(row: dict[str, list[int]]) -> int:
    return sum(label != IGNORED for label in row["labels"])


def _retained_text(row: Row) -> RetainedText:
    if row.unreadable is not None:
        raise DataError(f"{row.where}: {row.unreadable}")
    columns = {name: value for name, value in row.columns.items() if value is not None}
    kind = str(columns.get("kind") or "own")
    given = tuple(name for name in ("text", "input", "target") if name in columns)
    texts = [columns[name] for name in given]
    if given not in (("text",), ("input", "target")):
        raise DataError(f"{row.where}: a row of evaluation.retain has {COLUMNS}; this one has {', '.join(columns)}")
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError(f"{row.where}: {' and '.join(given)} must be text, and not empty")
    return RetainedText(kind, *texts)
