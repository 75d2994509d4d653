"""Examples as the model sees them."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import recipe_values
from tuneoff.data.inputs import Inputs, read_inputs
from tuneoff.data.preview import histogram, preview, token_texts
from tuneoff.data.sources import open_source
from tuneoff.data.splits import Split, read_split
from tuneoff.errors import DataError
from tuneoff.recipe import Recipe
from tuneoff.runner.events import Reporter


def read(data_folder: Path, kind: str, **data: object) -> tuple[Recipe, Inputs]:
    values = recipe_values(data_folder, kind)
    values["data"] |= data
    recipe = Recipe.model_validate(values)
    return recipe, read_inputs(recipe, None, Reporter(io.StringIO()))


def prompts(recipe: Recipe, split: Split) -> dict[str, str]:
    return {e.id: e.prompt for e in read_split(recipe, open_source(recipe.data), split, split).examples}


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_the_segments_are_the_prompt_and_what_the_loss_sees(kind: str, data_folder: Path) -> None:
    recipe, inputs = read(data_folder, kind)
    shown = preview(recipe, inputs, "train", 2)
    assert len(shown.examples) == 2 and shown.trained_on
    for example in shown.examples:
        seen, learnt = example.segments
        assert (seen.in_loss, learnt.in_loss) == (False, True)
        end = inputs.tokenizer.eos_token
        assert "".join(learnt.tokens).strip() == f"{example.references[0]}{end}"
        text = "".join(seen.tokens)
        assert text.removesuffix(end) == prompts(recipe, "train")[example.id] and text.endswith(end) == (
            kind == "seq2seq"
        )
        assert example.cut_tokens == 0
    assert len(shown.input_lengths) == len(shown.target_lengths) == inputs.data["train"].examples
    assert sum(shown.target_lengths) == inputs.data["train"].target_tokens


def test_the_scored_split_has_no_target_and_what_is_cut_is_counted(data_folder: Path) -> None:
    recipe, inputs = read(data_folder, "causal", max_source_length=24)
    shown = preview(recipe, inputs, "test", 99)
    assert len(shown.examples) == inputs.data["test"].examples and not shown.trained_on
    assert shown.target_lengths == []
    for example in shown.examples:
        (seen,) = example.segments
        whole = len(inputs.tokenizer(prompts(recipe, "test")[example.id])["input_ids"])
        assert example.cut_tokens == max(0, whole - 24) and len(seen.tokens) == min(whole, 24)


def test_a_split_that_is_not_used_is_named(data_folder: Path) -> None:
    recipe, inputs = read(data_folder, "seq2seq")
    with pytest.raises(DataError, match="the recipe uses no split 'tset'; did you mean 'test'"):
        preview(recipe, inputs, "tset", 1)  # type: ignore[arg-type]


def test_tokens_of_half_a_character_have_their_names(data_folder: Path) -> None:
    _, inputs = read(data_folder, "causal")
    ids = inputs.tokenizer("a🎈b", add_special_tokens=False)["input_ids"]
    texts = token_texts(inputs.tokenizer, ids)
    assert len(texts) == len(ids) and texts[0] == "a" and texts[-1] == "b" and "\ufffd" not in "".join(texts)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=50))
def test_every_length_lies_in_one_of_at_most_nine_bins(lengths: list[int]) -> None:
    bins = histogram(lengths)
    assert len(bins) <= 9 and sum(one.count for one in bins) == len(lengths)
    assert bins[0].low <= min(lengths) <= bins[0].high and bins[-1].low <= max(lengths) <= bins[-1].high
    assert all(a.high + 1 == b.low for a, b in pairwise(bins))
