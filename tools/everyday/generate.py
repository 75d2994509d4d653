"""Make `builtin:everyday` from its scenes: `python tools/everyday/generate.py`.

A scene (scenes/SPLIT/NAME.yaml) has slots, an opening and several outcomes, each turn in several wordings.
A dialogue is one draw of all of these, from a seed, so the same files come out each time. A scene
belongs to one split, so that no wording of a test dialogue is ever trained on; those of the split
`pretrain` are in no part of the data and serve the pretraining of `builtin:dialog-t5-nano` alone. A second test part,
`handwritten`, comes from written/*.yaml as it stands there. docs/everyday.md describes the formats and the data.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
OUT = HERE.parents[1] / "src" / "tuneoff" / "builtin" / "everyday" / "data"
TURN = re.compile(r"([12]): (\S.*)")
SLOT = re.compile(r"\{([A-Za-z_]+?)(\d?)\}")
TURNS = range(4, 15)
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


def _check(scene: Scene, where: str, shared: dict[str, list[str]]) -> None:
    known = {**shared, **scene.slots}
    wordings = [w for o in scene.outcomes for w in (o["summary"], *_all(o["turns"]))] + _all(scene.opening)
    for alternatives in wordings:
        if len(alternatives) < 3:
            raise ValueError(f"{where}: fewer than 3 wordings: {alternatives}")
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
                    dialogue = "\n".join(f"#Person{speaker}#: {text}" for speaker, text in turns)
                    rows.append({"dialogue": dialogue, "summary": summary, "scene": scene.name})
                    break
    rng.shuffle(rows)
    return rows


def read_written(folder: Path) -> list[dict[str, str]]:
    """The dialogues of `folder`, a row for each of their summaries. Raises ValueError where one is malformed."""
    rows = []
    for path in sorted(folder.glob("*.yaml")):
        for number, entry in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")), start=1):
            turns = [TURN.fullmatch(line) for line in entry["dialogue"].strip().split("\n")]
            if None in turns or len(turns) not in TURNS or len(entry["summaries"]) not in (2, 3):
                raise ValueError(f"{path}: dialogue {number}: not 4–14 turns `1: …` with 2 or 3 summaries")
            dialogue = "\n".join(f"#Person{turn[1]}#: {turn[2]}" for turn in turns if turn)
            rows += [
                {"dialogue": dialogue, "summary": re.sub(r"\bP([12])\b", r"#Person\1#", summary)}
                for summary in entry["summaries"]
            ]
    return rows


def _write(split: str, rows: list[dict[str, str]]) -> None:
    lines = (json.dumps({"id": f"{split}_{n}", **row}, ensure_ascii=False) + "\n" for n, row in enumerate(rows))
    (OUT / f"{split}-00000-of-00001.jsonl").write_text("".join(lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--validation", type=int, default=240)
    parser.add_argument("--test", type=int, default=320)
    arguments = parser.parse_args()
    shared = yaml.safe_load((HERE / "slots.yaml").read_text(encoding="utf-8"))
    OUT.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        scenes = read_scenes(HERE / "scenes" / split, shared)
        rows = generate(scenes, shared, getattr(arguments, split), random.Random(f"{arguments.seed}/{split}"))
        _write(split, rows)
        print(f"{split}: {len(rows)} dialogues of {len(scenes)} scenes")
    written = read_written(HERE / "written")
    _write("handwritten", written)
    print(f"handwritten: {len({row['dialogue'] for row in written})} dialogues, {len(written)} summaries")


if __name__ == "__main__":
    main()
