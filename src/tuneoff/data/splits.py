"""One split of a recipe's data, read and checked."""

from __future__ import annotations

from typing import Literal

from tuneoff.data.examples import Examples, read_examples
from tuneoff.data.prompt import Prompt
from tuneoff.data.sources import Source
from tuneoff.errors import DataError
from tuneoff.recipe.schema import Recipe

Split = Literal["train", "validation", "test"]


def read_split(recipe: Recipe, source: Source, split: Split, name: str) -> Examples:
    """The examples of `split`, which the source calls `name`: rows of one input together where it is scored.

    Raises DataError.
    """
    data = recipe.data
    try:
        return read_examples(
            source.rows(name),
            input=data.input,
            target=data.target,
            prompt=Prompt(recipe.prompt),
            group_references=split == recipe.evaluation.split,
            limit=getattr(data.limit, split),
            skip_bad_rows=data.on_bad_row == "skip",
        )
    except DataError as error:
        raise DataError(f"data, split {name!r}: {error}") from None
