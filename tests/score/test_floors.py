"""Scores of what no model wrote, by hand."""

from __future__ import annotations

import pytest

from tuneoff.records import Floor
from tuneoff.score.floors import floors, lead
from tuneoff.score.metrics import find_metrics

METRICS = find_metrics(["rouge1", "exact_match"])


def found(*asked: tuple[str, list[str]]) -> dict[str, Floor]:
    return {floor.name: floor for floor in floors(asked, METRICS)}


def test_first_sentences_are_as_many_as_have_the_words_of_a_reference() -> None:
    text = "One two three. Four five!\nSix seven eight"
    assert [lead(text, length) for length in (0.5, 3, 3.5, 5.1, 99)] == [
        "One two three.", "One two three.", "One two three. Four five!", "One two three. Four five! Six seven eight",
        "One two three. Four five! Six seven eight",
    ]  # fmt: skip
    assert lead("他们星期五见面。他们走了。", 5) == "他们星期五见面。"


def test_floors_by_hand() -> None:
    asked = [
        ("a b c d. e f", ["a b x y", "a b c d"]),  # 2 of 4 words, and 4 of 4
        ("g h i j. k l", ["a b c d", "m n o p"]),
    ]
    floors_by_name = found(*asked)
    assert {name: floor.scores["rouge1"] for name, floor in floors_by_name.items()} == {
        "first sentences": pytest.approx((0.75 + 0) / 2),
        "always the same": pytest.approx((0.75 + 0.5) / 2),  # a b c d
        "one reference": pytest.approx((0.5 + 0.5 + 0 + 0) / 4),
    }
    assert floors_by_name["always the same"].scores["exact_match"] == 1  # the best of several references
    assert {floor.examples for floor in floors_by_name.values()} == {2}


def test_what_there_is_not_has_no_floor() -> None:
    assert list(found(("a b", ["c"]), ("d e", ["f"]))) == ["first sentences"]


def test_many_examples_are_sampled_evenly() -> None:
    asked = [(f"word{n}", [f"word{n}"]) for n in range(1201)]
    floor = found(*asked)["first sentences"]
    assert (floor.examples, floor.scores["rouge1"]) == (401, 1.0)
