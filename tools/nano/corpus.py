"""The texts that `builtin:dialog-t5-nano` is pretrained on, as documents of units.

A document is a list of units (turns of a dialogue, tagged `#Person1#:` and `#Person2#:`, or sentences of prose);
a service dialogue also has facts: what was asked for, by intent and slot. Sources and licences: docs/nano.md.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

EVERYDAY = Path(__file__).parents[1] / "everyday"
SENTENCE = re.compile(r'(?<=[.!?])["”’]?\s+(?=["“‘A-Z])')
PROSE_UNITS = 14  # sentences of prose in one document: about as long as a dialogue


@dataclass(frozen=True)
class Document:
    """One text, in units that an objective may take out whole; `gist` is what a summary of it would say."""

    source: str
    units: list[str]
    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    gist: str | None = None


def read_corpus(folder: Path, seed: int, scene_dialogues: int, sketch_dialogues: int) -> list[Document]:
    """Every document, in an order of its own, sketches last. Raises FileNotFoundError where a source is missing."""
    documents = [
        *_services(folder / "schema-guided-dialogue.jsonl.gz"),
        *_short(folder / "taskmaster.jsonl.gz"),
        *_fiction(folder / "public-domain-fiction.txt.gz"),
        *_own("scenes", scene_dialogues, seed),
    ]
    random.Random(seed).shuffle(documents)
    # Last, so that what is held out of the others stays the same while sketches are added.
    return [*documents, *_own("sketches", sketch_dialogues, seed)]


def _rows(path: Path) -> Iterator[dict[str, object]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _tagged(turns: list[tuple[str, str]]) -> list[str]:
    """Turns by whoever speaks first as #Person1#, consecutive turns of one speaker as one."""
    numbers: dict[str, int] = {}
    units: list[str] = []
    last = ""
    for speaker, text in turns:
        number = numbers.setdefault(speaker, len(numbers) + 1)
        if speaker == last:
            units[-1] += f" {text.strip()}"
        else:
            units.append(f"#Person{number}#: {text.strip()}")
        last = speaker
    return units


def _services(path: Path) -> Iterator[Document]:
    for row in _rows(path):
        yield Document("schema-guided-dialogue", _tagged(row["turns"]), row["intents"])  # type: ignore[arg-type]


def _short(path: Path) -> Iterator[Document]:
    for row in _rows(path):
        yield Document("taskmaster", _tagged(row["turns"]))  # type: ignore[arg-type]


def _fiction(path: Path) -> Iterator[Document]:
    with gzip.open(path, "rt", encoding="utf-8") as text:
        works = text.read().split("\n\n")
    for work in works:
        sentences = [s for paragraph in work.split("\n") for s in SENTENCE.split(paragraph.strip()) if s]
        for start in range(0, len(sentences), PROSE_UNITS):
            yield Document("fiction", sentences[start : start + PROSE_UNITS])


def _own(kind: str, count: int, seed: int) -> Iterator[Document]:
    """Dialogues of the generator's scenes or sketches that are in no split of `everyday`, with their summaries."""
    sys.path.insert(0, str(EVERYDAY))
    from generate import generate, read_scenes, read_sketches

    shared = shared_slots()
    scenes = {"scenes": read_scenes, "sketches": read_sketches}[kind](EVERYDAY / kind / "pretrain", shared)
    for row in generate(scenes, shared, count, random.Random(f"{seed}/pretrain")):
        yield Document(kind, row["dialogue"].split("\n"), gist=row["summary"])


def shared_slots() -> dict[str, list[str]]:
    """Names, times, prices and the like, as the generator of `everyday` has them."""
    return yaml.safe_load((EVERYDAY / "slots.yaml").read_text(encoding="utf-8"))
