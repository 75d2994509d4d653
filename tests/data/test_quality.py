"""What is odd about data, told before anything is trained."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tuneoff.data.examples import Example, Examples
from tuneoff.data.quality import check_overlap, data_warnings

WORDS = [f"word{n}" for n in range(2000)]


def example(number: int, text: str, *references: str, prefix: str = "x") -> Example:
    return Example(f"{prefix}{number}", text, f"Sum up: {text}", references or (f"target {number}",), {"text": text})


def text(seed: int, count: int = 40) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def split(examples: list[Example]) -> Examples:
    return Examples(examples, len(examples), 0, 0)


def warnings(train: list[Example], test: list[Example]) -> list[str]:
    return data_warnings({"train": split(train), "test": split(test)}, "test")


CLEAN = [example(n, text(n)) for n in range(200)]
TEST = [example(n, text(1000 + n), f"another {n}", prefix="t") for n in range(100)]


def test_clean_data_have_no_warnings() -> None:
    assert warnings(CLEAN, TEST) == []
    assert data_warnings({"test": split(TEST)}, "test") == []


@pytest.mark.parametrize("shown", [str, str.upper, lambda t: f"{t} ".replace(" ", "  ")])
def test_examples_that_are_trained_on_too_are_counted_and_many_are_refused(shown) -> None:  # type: ignore[no-untyped-def]
    few = [*CLEAN, *(example(500 + n, shown(TEST[n].input)) for n in range(5))]
    many = [*few, example(600, shown(TEST[7].input))]
    assert warnings(few, TEST) == ["test examples that are trained on, too: 5 of 100, the first is t0"]
    splits = {"train": split(few), "test": split(TEST)}
    assert check_overlap(splits, "test", False) == []
    splits["train"] = split(many)
    (problem,) = check_overlap(splits, "test", False)
    assert str(problem).startswith(
        "data: test examples that are trained on, too: 6 of 100, the first is t0. Scores would"
    )
    assert check_overlap(splits, "test", True) == []


def test_one_file_as_both_splits_is_refused() -> None:
    (problem,) = check_overlap({"train": split(TEST), "test": split(TEST)}, "test", False)
    assert "100 of 100" in str(problem)


@pytest.mark.parametrize("start", range(0, 24, 5))
def test_shared_runs_of_words_are_found_wherever_they_stand(start: int) -> None:
    runs = [" ".join(TEST[n].input.split()[start : start + 16]) for n in range(3)]
    near = [*CLEAN, *(example(500 + n, f"{text(5000 + n, n)} {run} {text(6000 + n)}") for n, run in enumerate(runs))]
    told = "test examples that share 12 words in a row or more with an example that is trained on: 3 of 100"
    assert warnings(near, TEST) == [f"{told}, the first is t0"]


def test_phrases_that_many_examples_have_are_no_overlap() -> None:
    phrase = text(7, 20)
    train = [example(n, f"{phrase} {text(n)}") for n in range(200)]
    test = [example(n, f"{phrase} {text(1000 + n)}", f"another {n}", prefix="t") for n in range(100)]
    assert warnings(train, test) == []


def test_odd_targets_are_told() -> None:
    copied = [example(n, text(n), " ".join(text(n).split()[3:9])) for n in range(30)]
    assert warnings(copied, TEST) == [
        "train: targets that stand word for word in their inputs: 30 of 30, the first is x0"
    ]
    same = [example(n, text(n), "No summary.") for n in range(30)]
    assert warnings(same, TEST) == ["train: targets that are all the same: 30 of 30, 'no summary.'"]
    twice = [*CLEAN, example(900, CLEAN[4].input, "something else")]
    assert warnings(twice, TEST) == [
        "train: prompts that occur several times with different targets: 1, the first is x4"
    ]
    words = [*CLEAN, *(example(900 + n, text(900 + n), "yes") for n in range(3))]
    assert warnings(words, TEST) == ["train: targets of a single word: 3 of 203, the first is x900"]


def test_labels_and_several_right_answers_are_meant_so() -> None:
    labelled = [example(n, text(n), ("good", "bad")[n % 2]) for n in range(60)]
    answers = [example(n, text(1000 + n), "one answer", f"another {n}", prefix="t") for n in range(60)]
    assert warnings(labelled, answers) == []


def test_groups_that_are_trained_on_too_are_told() -> None:
    def marked(examples: list[Example], users: range) -> list[Example]:
        return [replace(one, group=f"user {users[n % len(users)]}") for n, one in enumerate(examples)]

    (told,) = warnings(marked(CLEAN, range(50)), marked(TEST, range(45, 65)))
    assert told == "test examples of a group (data.group) that is trained on, too: 25 of 100, the first is t0"
    assert warnings(marked(CLEAN, range(50)), marked(TEST, range(50, 60))) == []
