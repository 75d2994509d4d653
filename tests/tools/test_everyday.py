"""`builtin:everyday` as it ships, against its generator and the pretraining."""

from __future__ import annotations

import random
from pathlib import Path

import generate
import pytest
import yaml
from card import SPLITS, overlap, read

SHARED = yaml.safe_load((generate.HERE / "slots.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pretraining() -> list[dict[str, str]]:
    rows = []
    for read_all, kind, count in ((generate.read_scenes, "scenes", 1200), (generate.read_sketches, "sketches", 6000)):
        own = read_all(generate.HERE / kind / "pretrain", SHARED)
        rows += generate.generate(own, SHARED, count, random.Random("0/pretrain"))
    return rows


def test_the_generator_makes_the_files_that_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = {path.name: path.read_bytes() for path in generate.OUT.iterdir()}
    monkeypatch.setattr(generate, "OUT", tmp_path)
    monkeypatch.setattr("sys.argv", ["generate.py"])
    generate.main()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == shipped


def test_sizes() -> None:
    sizes = {split: len(read(split)) for split in SPLITS}
    assert sizes == {"train": 3185, "validation": 277, "test": 357, "handwritten": 65}
    scenes = {row["scene"] for split in SPLITS[:3] for rows in read(split).values() for row in rows}
    assert len(scenes) == 50 + 1250 + 5 + 100 + 8 + 200
    assert all(2 <= len(rows) <= 3 for rows in read("handwritten").values())


@pytest.mark.parametrize("split", SPLITS)
def test_every_slot_is_filled(split: str) -> None:
    for dialogue, rows in read(split).items():
        assert not set("{}") & set(dialogue + "".join(row["summary"] for row in rows))


@pytest.mark.parametrize("split", SPLITS[1:])
def test_no_text_is_shared_with_what_is_trained_on(split: str, pretraining: list[dict[str, str]]) -> None:
    trained = [row for rows in read("train").values() for row in rows] + pretraining
    dialogues = {row["dialogue"] for row in trained}
    summaries = {row["summary"] for row in trained}
    turns = {turn.partition(": ")[2] for dialogue in dialogues for turn in dialogue.split("\n")}
    for dialogue, rows in read(split).items():
        assert dialogue not in dialogues
        assert summaries.isdisjoint(row["summary"] for row in rows)
        long = {turn.partition(": ")[2] for turn in dialogue.split("\n") if len(turn.split()) > 6}
        assert turns.isdisjoint(long)
    assert overlap(read(split), {row["dialogue"]: [row] for row in trained})[0] < 0.01


def test_near_duplicates_are_counted() -> None:
    text = " ".join(f"w{n}" for n in range(26))  # 22 shingles of 5 words, 5 of them around w13
    assert overlap({text: []}, {text: []}) == (1.0, 1.0)
    assert overlap({text.replace("w13", "other"): []}, {text: []}) == (1.0, 17 / 27)
    assert overlap({" ".join(f"w{n}" for n in range(12)): []}, {text: []}) == (0.0, 8 / 22)
    assert overlap({"nothing of the kind was ever said": []}, {text: []}) == (0.0, 0.0)
