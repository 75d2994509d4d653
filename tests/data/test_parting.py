"""`data.split`: parts of one file in which no input stands twice."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import recipe_values, write_jsonl
from tuneoff.data.parting import part_inputs
from tuneoff.data.splits import open_splits, read_splits
from tuneoff.errors import DataError, RecipeError
from tuneoff.recipe import Recipe
from tuneoff.recipe.load import make_recipe

INPUTS = [f"Ticket {n % 80}" if n % 2 else f"  ticket  {n % 80} " for n in range(200)]  # 80 different ones
WANTED = {"test": 0.25, "validation": 8}


def test_parts_have_the_wanted_inputs_and_share_none() -> None:
    parts = part_inputs(INPUTS, WANTED, seed=0)
    by_part: dict[str | None, set[str]] = {}
    for text, part in zip(INPUTS, parts, strict=True):
        by_part.setdefault(part, set()).add(" ".join(text.lower().split()))
    assert {part: len(texts) for part, texts in by_part.items()} == {"test": 20, "validation": 8, None: 52}
    assert sum(len(texts) for texts in by_part.values()) == len(set().union(*by_part.values()))


def test_parts_depend_on_inputs_and_seed_alone() -> None:
    parts = dict(zip(INPUTS, part_inputs(INPUTS, WANTED, seed=0), strict=True))
    shuffled = random.Random(0).sample(INPUTS, len(INPUTS))
    assert dict(zip(shuffled, part_inputs(shuffled, WANTED, seed=0), strict=True)) == parts
    assert dict(zip(INPUTS, part_inputs(INPUTS, WANTED, seed=1), strict=True)) != parts
    test = {text for text, part in parts.items() if part == "test"}
    other = part_inputs(INPUTS, {"test": 0.25, "validation": 30}, seed=0)
    assert {text for text, part in zip(INPUTS, other, strict=True) if part == "test"} == test


def test_a_group_is_never_parted_nor_are_the_groups_that_share_an_input() -> None:
    inputs = [f"input {n}" for n in range(100)] + ["input 0", "loose"]
    groups: list[Any] = [f"patient {n // 5}" for n in range(100)] + ["patient 19", None]
    parts = part_inputs(inputs, {"test": 20}, seed=3, groups=groups)
    by_group: dict[str, set[str | None]] = {}
    for group, part in zip(groups, parts, strict=True):
        by_group.setdefault(group, set()).add(part)
    assert all(len(found) == 1 for found in by_group.values())
    assert by_group["patient 0"] == by_group["patient 19"]  # they share input 0
    assert 16 <= Counter(parts)["test"] <= 20


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"test": 0.5, "validation": 60}, "leaves nothing to train on: test 40, validation 60 of 80 distinct inputs"),
        ({"test": 0.001}, "test would be empty: 0.001 of 80 distinct inputs"),
    ],
)
def test_parts_that_cannot_be_are_told(wanted: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        part_inputs(INPUTS, wanted, seed=0)


def test_a_group_too_large_for_its_part_is_told() -> None:
    with pytest.raises(DataError, match="test would have 3 inputs, and every group has more"):
        part_inputs([str(n) for n in range(40)], {"test": 3}, seed=0, groups=[n // 20 for n in range(40)])


def recipe(folder: Path, **data: Any) -> Recipe:
    values = recipe_values(folder)
    values["data"] = {**values["data"], "source": str(folder / "all.jsonl"), **data}
    return make_recipe(values).recipe


def test_one_file_is_read_as_three_splits(tmp_path: Path) -> None:
    rows = [{"dialogue": f"dialogue {n % 40}", "summary": f"summary {n}"} for n in range(60)]
    write_jsonl(tmp_path / "all.jsonl", rows)
    parted = recipe(tmp_path, split={"validation": 4, "test": 0.2}, split_seed=5)
    found = read_splits(parted, open_splits(parted))
    inputs = {split: {example.input for example in examples.examples} for split, examples in found.items()}
    assert {split: len(texts) for split, texts in inputs.items()} == {"train": 28, "validation": 4, "test": 8}
    assert len(set().union(*inputs.values())) == 40
    assert sum(examples.rows for examples in found.values()) == 60
    assert all(len(e.references) == (1 + (int(e.input.split()[1]) < 20)) for e in found["test"].examples)
    again = Recipe.model_validate(parted.model_dump(mode="json"))
    assert read_splits(again, open_splits(again)) == found


def test_conversations_that_begin_alike_stay_together_where_every_answer_is_learnt(tmp_path: Path) -> None:
    def said(*texts: str) -> dict[str, Any]:
        return {"messages": [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]}

    rows = [said(f"Question {n % 20}", "answer", f"and {n}?", "answer") for n in range(60)]
    write_jsonl(tmp_path / "all.jsonl", rows)
    values = recipe_values(tmp_path)
    del values["prompt"]
    data = {"source": str(tmp_path / "all.jsonl"), "train_on": "all", "split": {"test": 0.5}}
    parted = make_recipe({**values, "data": data}).recipe
    found = read_splits(parted, open_splits(parted))
    first = {split: {e.turns[0].content for e in examples.examples} for split, examples in found.items()}
    assert first["train"] and first["test"] and not first["train"] & first["test"]


def test_a_part_that_the_data_have_already_is_told(data_folder: Path) -> None:
    values = recipe_values(data_folder)
    values["data"]["split"] = {"test": 0.2}
    parted = make_recipe(values).recipe
    with pytest.raises(DataError, match=r"have a split 'test' of their own: leave it out of data\.split"):
        read_splits(parted, open_splits(parted))


def test_a_bad_row_is_told_and_a_wrong_column_named(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "all.jsonl", [{"dialogue": f"d{n}", "summary": "s"} for n in range(20)] + [{"dialogue": 3}])
    bad = recipe(tmp_path, split={"test": 0.2})
    with pytest.raises(DataError, match=r"all\.jsonl:21 has int in 'dialogue'"):
        read_splits(bad, open_splits(bad))
    skipped = recipe(tmp_path, split={"test": 0.2}, on_bad_row="skip")
    assert {k: len(v.examples) for k, v in read_splits(skipped, open_splits(skipped)).items()} == {
        "train": 16,
        "test": 4,
    }
    values = {**recipe_values(tmp_path), "prompt": "{dialog}"}
    values["data"] = {
        "source": str(tmp_path / "all.jsonl"),
        "input": "dialog",
        "target": "summary",
        "split": {"test": 2},
    }
    wrong = make_recipe(values).recipe
    with pytest.raises(DataError, match="no column 'dialog'; did you mean 'dialogue'"):
        read_splits(wrong, open_splits(wrong))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"split": {"test": 1.0}}, "a share between 0 and 1, such as 0.1, or a whole number of examples"),
        ({"split": {"test": True}}, "a share between 0 and 1"),
        ({"split": {"test": 0.5, "validation": 0.5}}, "the shares leave nothing to train on"),
        ({"split": {}}, "name what is split off"),
        ({"split": {"test": 0.1}, "source": {"train": "a.csv", "test": "b.csv"}}, "`source` has a file for 'test'"),
        ({"source": {"train": "a.csv"}}, "takes a test part out of `train`"),
        ({"split": {"validation": 0.1}, "splits": {"validation": None}}, r"`splits\.validation` is null"),
        ({"delimiter": ";;"}, "delimiter"),
        ({"encoding": "klingon"}, "no such encoding"),
    ],
)
def test_mistakes_in_the_recipe_are_told(tmp_path: Path, data: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(tmp_path, **data)


def test_the_recipe_s_groups_are_never_parted(tmp_path: Path) -> None:
    rows = [{"ticket": f"Ticket {n}", "answer": "Done.", "user": n // 4} for n in range(80)]
    write_jsonl(tmp_path / "one.jsonl", rows)
    data = {"source": {"train": str(tmp_path / "one.jsonl")}, "input": "ticket", "target": "answer", "group": "user"}
    values = recipe_values(tmp_path) | {
        "data": {**data, "split": {"validation": 0.1, "test": 0.2}}, "prompt": "{ticket}",
    }  # fmt: skip
    recipe = Recipe.model_validate(values)
    splits = read_splits(recipe, open_splits(recipe))
    users = {split: {example.group for example in found.examples} for split, found in splits.items()}
    assert [len(users[split]) for split in ("train", "validation", "test")] == [14, 2, 4]
    assert len(set.union(*users.values())) == 20
