"""Make `builtin:everyday` from its scenes: `python tools/everyday/generate.py`.

A scene (scenes/*.yaml) has slots, an opening and several outcomes, each turn in several wordings.
A dialogue is one draw of all of these, from a seed, so the same files come out each time. A scene
belongs to one split, so that no wording of a test dialogue is ever trained on. docs/everyday.md
describes the format and the data.
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
OUT = HERE.parents[1] / "src" / "tuneoff" / "builtin" / "everyday"
SLOT = re.compile(r"\{([A-Za-z_]+?)(\d?)\}")
TURNS = range(4, 15)
OVERLAP = 0.8  # share of equal turns from which two dialogues of a scene count as the same
TRIES = 60

Turn = tuple[int, str]


@dataclass(frozen=True)
class Scene:
    """One kind of situation, with all of its wordings."""

    name: str
    split: str
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
    """Every scene below `folder`. Raises ValueError with file and scene where one is malformed."""
    scenes: dict[str, Scene] = {}
    for path in sorted(folder.glob("*.yaml")):
        for values in yaml.safe_load(path.read_text(encoding="utf-8")):
            where = f"{path.name}: {values.get('scene')}"
            if set(values) - {"slots"} != {"scene", "split", "opening", "outcomes"}:
                raise ValueError(f"{where}: keys {sorted(values)}")
            scene = Scene(
                values["scene"], values["split"], values.get("slots") or {}, values["opening"], values["outcomes"]
            )
            if scene.name in scenes:
                raise ValueError(f"{where}: there twice")
            _check(scene, where, shared)
            scenes[scene.name] = scene
    return list(scenes.values())


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--validation", type=int, default=240)
    parser.add_argument("--test", type=int, default=320)
    arguments = parser.parse_args()
    shared = yaml.safe_load((HERE / "slots.yaml").read_text(encoding="utf-8"))
    scenes = read_scenes(HERE / "scenes", shared)
    OUT.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation", "test"):
        chosen = [scene for scene in scenes if scene.split == split]
        rows = generate(chosen, shared, getattr(arguments, split), random.Random(f"{arguments.seed}/{split}"))
        lines = (json.dumps({"id": f"{split}_{n}", **row}, ensure_ascii=False) + "\n" for n, row in enumerate(rows))
        (OUT / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
        print(f"{split}: {len(rows)} dialogues of {len(chosen)} scenes")


if __name__ == "__main__":
    main()
