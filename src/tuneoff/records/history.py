"""The history of a training, line by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tuneoff.errors import UnreadableFileError


def read_history(path: Path) -> list[dict[str, Any]]:
    """Every whole line of a `history.jsonl`; a process killed while writing leaves a part of one.

    Raises UnreadableFileError where the system does not let it be read.
    """
    if not path.is_file():
        return []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read ({error.strerror})") from None
    lines = []
    for part in text.split("\n"):
        try:
            line = json.loads(part)
        except ValueError:
            continue
        if isinstance(line, dict) and {"step", "train_seconds"} <= line.keys() and all(map(_is_number, line.values())):
            lines.append(line)
    return lines


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
