"""Dialogues made of affairs: what is told of one was said in it."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest
from affairs import KEYS, WAYS, Affairs
from card import SPLITS, read
from corpus import shared_slots
from phrases import Phrases

TURN = re.compile(r"#Person[12]#: \S.*")

FOUND = Phrases(
    ["paint the old boat", "find a seat by the window", "carry the piano upstairs", "wait for the last ferry"],
    [f"the {thing} was {what}" for thing in ("harbour", "bell", "orchard") for what in ("closed", "sold", "wet")],
)


@pytest.fixture(scope="module")
def affairs() -> Affairs:
    return Affairs(shared_slots(), FOUND)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_told_was_said(affairs: Affairs, seed: int) -> None:
    units, gist = affairs.draw(random.Random(seed))
    speakers = [unit[:9] for unit in units]
    assert all(TURN.fullmatch(unit) for unit in units)
    assert all(a != b for a, b in pairwise(speakers))
    assert not set("{}") & set(gist + "".join(units))
    said = " ".join(units).lower()
    told = [phrase for phrase in (*FOUND.actions, *FOUND.states) if phrase in gist.lower()]
    assert all(phrase in said for phrase in told)
    if told:
        return
    # The phrases stand unchanged: of any 4 words in a row that are no frame's, the dialogue has most.
    words = re.sub(r"#person[12]#('s)?", "|", gist.lower()).replace(".", " |").replace(",", " |").split()
    grams = [" ".join(words[n : n + 4]) for n in range(len(words) - 3) if "|" not in words[n : n + 4]]
    assert sum(gram in said for gram in grams) >= len(grams) / 2


def test_the_same_seed_gives_the_same_dialogue(affairs: Affairs) -> None:
    assert affairs.draw(random.Random(5)) == affairs.draw(random.Random(5))


def test_every_way_of_a_talk_is_told_by_frames_that_are_there(affairs: Affairs) -> None:
    for way in WAYS:
        for act in [*(act for _, act in way.turns), way.ending, *way.told]:
            if act == "told_end":  # a full stop
                continue
            assert len(affairs.frames[act.rstrip("?")]) >= 3
    phrases = dict.fromkeys([*KEYS, "a", "b", "aside"], "x")
    for frames in affairs.frames.values():
        for frame in frames:
            frame.format_map(phrases)


def test_nothing_of_it_is_in_the_data_that_ship(affairs: Affairs) -> None:
    turns = {line.partition(": ")[2] for split in SPLITS for dialogue in read(split) for line in dialogue.split("\n")}
    summaries = {row["summary"] for split in SPLITS for rows in read(split).values() for row in rows}
    for seed in range(2000):
        units, gist = affairs.draw(random.Random(seed))
        assert gist not in summaries
        long = {unit.partition(": ")[2] for unit in units if len(unit.split()) > 7}
        assert turns.isdisjoint(long)
