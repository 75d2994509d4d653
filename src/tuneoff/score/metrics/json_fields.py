"""JSON: whether a text is a JSON object or array, and which of the fields that it should have it has.

For tool calls and extraction. A text may stand in a Markdown code block, and nothing beside it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tuneoff.score.metrics.base import Metric, References, Scorer

_BLOCK = re.compile(r"^```(?:json)?\s*\n(.*)\n?```$", re.DOTALL)


def parsed(text: str) -> Any:
    """The object or array that `text` is; None where it is none."""
    text = text.strip()
    block = _BLOCK.match(text)
    try:
        value = json.loads(block[1] if block else text)
        json.dumps(value, allow_nan=False)  # NaN is read and is no JSON; a number of thousands of digits is neither
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def fields(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of a JSON value with the path to it. Items of an array have its path: their order does not count."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from fields(inner, f"{path}/{key}")
    elif isinstance(value, list) and value:
        for inner in value:
            yield from fields(inner, f"{path}[]")
    else:
        yield path, json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def field_f1(text: str, reference: str) -> float:
    """F1 of the fields of `text` and of `reference`: a field counts where path and value are the same."""
    written, wanted = parsed(text), parsed(reference)
    if written is None or wanted is None:
        return 0.0
    have, want = Counter(fields(written)), Counter(fields(wanted))
    return 2 * sum((have & want).values()) / (sum(have.values()) + sum(want.values()))


def _fields(references: References) -> Scorer:
    broken = sum(parsed(text) is None for own in references for text in own)
    return Scorer(
        lambda text, own: [field_f1(text, reference) for reference in own],
        signature={"json_fields": "f1"},
        warnings=[f"{broken:,} references that are no JSON object or array: their fields score 0"] if broken else [],
    )


def _valid(_: References) -> Scorer:
    def score(text: str, own: Sequence[str]) -> list[float]:
        return [float(parsed(text) is not None)] * len(own)

    return Scorer(score, signature={"json_valid": "object-or-array"})


METRICS = (
    Metric("json_fields", "JSON fields", "fields", "F1 of JSON fields × 100", "best", _fields),
    Metric("json_valid", "valid JSON", "valid", "share of valid JSON × 100", "best", _valid),
)
