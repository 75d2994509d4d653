"""Make `builtin:everyday` from its scenes: `python tools/everyday/generate.py`.

A scene (scenes/SPLIT/NAME.yaml) has slots, an opening and several outcomes, each turn in several wordings; a sketch
(sketches/SPLIT/*.yaml) is a small scene with one course and one wording. A dialogue is one draw of all of these, from
a seed, so the same files come out each time. Scenes and sketches belong to one split, so that no wording of a test
dialogue is ever trained on; those of the split `pretrain` are in no part of the data and serve the pretraining of
`builtin:dialog-t5-nano` alone. A second test part, `handwritten`, comes from written/*.yaml as it stands there.
docs/everyday.md describes the formats and the data.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "src" / "tuneoff" / "builtin" / "everyday" / "data"
TURN = re.compile(r"([12]): (\S.*)")
SLOT = re.compile(r"\{([A-Za-z_]+?)(\d?)\}")
TURNS = range(4, 15)
SEED = 0
COUNTS = {"train": (500, 2700), "validation": (80, 200), "test": (80, 280)}  # dialogues from scenes, from sketches
OVERLAP = 0.8  # share of equal turns from which two dialogues of a scene count as the same
TRIES = 60

Turn = tuple[int, str]


@dataclass(frozen=True)
class Scene:
    """One kind of situation, with all of its wordings."""

    name: str
    slots: dict[str, list[str]]
    opening: list[dict[Any, Any]]
    outcomes: list[dict[str, Any]]

    def draw(self, rng: random.Random, shared: dict[str, list[str]]) -> tuple[list[Turn], str]:
        """A dialogue as (speaker, text) turns, and its summary."""
        outcome = rng.choice(self.outcomes)
        turns = [turn for part in (self.opening, outcome["turns"]) for turn in _turns(part, rng)]
        merged: list[Turn] = []
        for speaker, text in turns:
            if merged and merged[-1][0] == speaker:
                merged[-1] = (speaker, f"{merged[-1][1]} {text}")
            else:
                merged.append((speaker, text))
        summary = rng.choice(outcome["summary"])
        values = _values({**shared, **self.slots}, [summary, *(text for _, text in merged)], rng)
        return [(speaker, _fill(text, values)) for speaker, text in merged], _fill(summary, values)


def read_scenes(folder: Path, shared: dict[str, list[str]]) -> list[Scene]:
    """Every scene in `folder`, one a file. Raises ValueError with the file where one is malformed."""
    scenes = []
    for path in sorted(folder.glob("*.yaml")):
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        if set(values) - {"slots"} != {"opening", "outcomes"}:
            raise ValueError(f"{path}: keys {sorted(values)}, not slots, opening and outcomes")
        scene = Scene(path.stem, values.get("slots") or {}, values["opening"], values["outcomes"])
        _check(scene, str(path), shared)
        scenes.append(scene)
    return scenes


def read_sketches(folder: Path, shared: dict[str, list[str]]) -> list[Scene]:
    """Every sketch in the files of `folder`. Raises ValueError with the file where one is malformed."""
    sketches = []
    for path in sorted(folder.glob("*.yaml")):
        for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
            where = f"{path}: {entry['scene']}"
            turns = [{speaker: [text]} for speaker, text in _read_turns(entry["dialogue"], where)]
            outcome = {"turns": turns, "summary": _read_summaries(entry["summaries"], where)}
            sketch = Scene(entry["scene"], entry.get("slots") or {}, [], [outcome])
            _check(sketch, where, shared, wordings=1)
            sketches.append(sketch)
    return sketches


def _check(scene: Scene, where: str, shared: dict[str, list[str]], wordings: int = 3) -> None:
    known = {**shared, **scene.slots}
    turns = [w for o in scene.outcomes for w in _all(o["turns"])] + _all(scene.opening)
    for alternatives in [*turns, *(o["summary"] for o in scene.outcomes)]:
        if len(alternatives) < wordings:
            raise ValueError(f"{where}: fewer than {wordings} wordings: {alternatives}")
        for name, _ in (slot for text in alternatives for slot in SLOT.findall(text)):
            if name not in known and name.lower() not in known:
                raise ValueError(f"{where}: no slot {{{name}}}")
    rng = random.Random(0)
    for _ in range(200):
        turns, _ = scene.draw(rng, shared)
        if len(turns) not in TURNS:
            raise ValueError(f"{where}: a dialogue of {len(turns)} turns")


def _all(part: list[dict[Any, Any]]) -> list[list[str]]:
    return [w for turn in part for k, v in turn.items() for w in (_all(v) if k == "optional" else [v])]


def _turns(part: list[dict[Any, Any]], rng: random.Random) -> list[Turn]:
    turns: list[Turn] = []
    for turn in part:
        for speaker, value in turn.items():
            if speaker != "optional":
                turns.append((int(speaker), rng.choice(value)))
            elif rng.random() < 0.5:
                turns.extend(_turns(value, rng))
    return turns


def _values(slots: dict[str, list[str]], texts: list[str], rng: random.Random) -> dict[str, str]:
    """A value for each slot used; `{name}` and `{name2}` differ."""
    used = {(name.lower() if name.lower() in slots else name, n) for text in texts for name, n in SLOT.findall(text)}
    values = {}
    for name in sorted({name for name, _ in used}):
        numbers = sorted(n for other, n in used if other == name)
        for n, value in zip(numbers, rng.sample(slots[name], len(numbers)), strict=True):
            values[name + n] = value
    return values


def _fill(text: str, values: dict[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name, number = match.groups()
        if name + number in values:
            return values[name + number]
        found = values[name.lower() + number]
        return found[0].upper() + found[1:]

    filled = SLOT.sub(value, text)
    return filled[0].upper() + filled[1:]


def generate(scenes: list[Scene], shared: dict[str, list[str]], count: int, rng: random.Random) -> list[dict[str, str]]:
    """About `count` rows, spread evenly over `scenes`; near-repetitions within a scene are drawn again."""
    rows = []
    for position, scene in enumerate(scenes):
        wanted = count * (position + 1) // len(scenes) - count * position // len(scenes)
        kept: list[set[Turn]] = []
        for _ in range(wanted):
            for _ in range(TRIES):
                turns, summary = scene.draw(rng, shared)
                own = set(turns)
                if all(len(own & other) / len(own | other) <= OVERLAP for other in kept):
                    kept.append(own)
                    rows.append({"dialogue": _joined(turns), "summary": summary, "scene": scene.name})
                    break
    return rows


def read_written(folder: Path) -> list[dict[str, str]]:
    """The dialogues of `folder`, a row for each of their summaries. Raises ValueError where one is malformed."""
    rows = []
    for path in sorted(folder.glob("*.yaml")):
        for number, entry in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")), start=1):
            where = f"{path}: dialogue {number}"
            dialogue = _joined(_read_turns(entry["dialogue"], where))
            rows += [{"dialogue": dialogue, "summary": text} for text in _read_summaries(entry["summaries"], where)]
    return rows


def _read_turns(text: str, where: str) -> list[Turn]:
    """The turns of lines `1: …` and `2: …`, each by the other speaker."""
    turns = [TURN.fullmatch(line) for line in text.strip().split("\n")]
    read = [(int(turn[1]), turn[2]) for turn in turns if turn]
    if len(read) not in TURNS or len(read) < len(turns) or any(a[0] == b[0] for a, b in pairwise(read)):
        raise ValueError(f"{where}: not 4–14 turns `1: …` and `2: …` in turn")
    return read


def _read_summaries(texts: list[str], where: str) -> list[str]:
    if len(texts) not in (2, 3):
        raise ValueError(f"{where}: not 2 or 3 summaries")
    return [re.sub(r"\bP([12])\b", r"#Person\1#", text) for text in texts]


def _joined(turns: list[Turn]) -> str:
    return "\n".join(f"#Person{speaker}#: {text}" for speaker, text in turns)


def _write(split: str, rows: list[dict[str, str]]) -> None:
    lines = (json.dumps({"id": f"{split}_{n}", **row}, ensure_ascii=False) + "\n" for n, row in enumerate(rows))
    (OUT / f"{split}-00000-of-00001.jsonl").write_text("".join(lines), encoding="utf-8")


def main() -> None:
    shared = yaml.safe_load((HERE / "slots.yaml").read_text(encoding="utf-8"))
    OUT.mkdir(parents=True, exist_ok=True)
    for split, counts in COUNTS.items():
        rng = random.Random(f"{SEED}/{split}")
        parts = read_scenes(HERE / "scenes" / split, shared), read_sketches(HERE / "sketches" / split, shared)
        rows = [row for part, count in zip(parts, counts, strict=True) for row in generate(part, shared, count, rng)]
        rng.shuffle(rows)
        _write(split, rows)
        print(f"{split}: {len(rows)} dialogues of {len(parts[0])} scenes and {len(parts[1])} sketches")
    written = read_written(HERE / "written")
    _write("handwritten", written)
    print(f"handwritten: {len({row['dialogue'] for row in written})} dialogues, {len(written)} summaries")


if __name__ == "__main__":
    main()
