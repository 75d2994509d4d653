"""The splits of a recipe's data, read and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from tuneoff.data.conversations import MESSAGES, TARGET, Layout, as_rows, as_turns, find_layout, question_of
from tuneoff.data.examples import Examples, group_of, read_examples
from tuneoff.data.parting import Parting
from tuneoff.data.prompt import Prompt
from tuneoff.data.rows import Row
from tuneoff.data.sources import Source, open_source
from tuneoff.errors import DataError, Problem, RecipeError, nearest
from tuneoff.recipe.data import Splits
from tuneoff.recipe.schema import Recipe, TokenizerSpec

Split = Literal["train", "validation", "test"]


def open_splits(recipe: Recipe, revision: str | None = None) -> Source:
    """The source of a recipe's data, with the parts that `data.split` takes out of its training split.

    A data set of the hub is read at `revision` where it is given. Raises DataError.
    """
    data = recipe.data.model_copy(update={"revision": revision or recipe.data.revision})
    source = open_source(data)
    if data.split is None:
        return source
    names = {str(getattr(data.splits, part)): share for part, share in data.split.parts.items()}
    asked = _asked_of_conversations(recipe) if data.has_conversations else _asked_of_texts(recipe)
    group = data.group
    marked = (lambda row: group_of(row, group)) if group is not None else None
    return replace(source, parting=Parting(data.splits.train, names, data.split_seed, asked, marked))


def _asked_of_texts(recipe: Recipe) -> Callable[[Row], str | None]:
    """A row → its texts in the prompt."""
    assert recipe.prompt is not None and recipe.data.input is not None
    columns = dict.fromkeys([recipe.data.input, *Prompt(recipe.prompt).columns])

    def asked(row: Row) -> str | None:
        if row.unreadable is not None:
            return None
        if recipe.data.input not in row.columns:
            raise DataError(
                f"the data has no column {recipe.data.input!r}; {nearest(str(recipe.data.input), row.columns)}"
            )
        texts = [row.columns.get(name) or "" for name in columns]
        return "\0".join(texts) if all(isinstance(text, str) for text in texts) and texts[0].strip() else None

    return asked


def _asked_of_conversations(recipe: Recipe) -> Callable[[Row], str | None]:
    """A row → what its last turn of the user asks with all before it; where every answer is learnt, its first."""
    layout: Layout | None = None

    def asked(row: Row) -> str | None:
        nonlocal layout
        if row.unreadable is not None:
            return None
        layout = layout or find_layout(row.columns, recipe.data.messages)
        try:
            question = question_of(row.columns, layout)
        except ValueError:
            return None
        if recipe.data.train_on == "last":
            return question
        return next(turn.content for turn in as_turns(question) if turn.role == "user")

    return asked


def read_split(recipe: Recipe, source: Source, split: Split, name: str) -> Examples:
    """The examples of `split`, which the source calls `name`: rows of one input together where it is scored.

    Raises DataError.
    """
    data, rows, layout = recipe.data, source.rows(name), None
    try:
        if data.has_conversations:
            train_on = "last" if split == recipe.evaluation.split else data.train_on
            layout, rows = as_rows(rows, data.messages, train_on, data.group)
        found = read_examples(
            rows,
            input=data.input or MESSAGES,
            target=data.target or TARGET,
            prompt=Prompt(recipe.prompt) if recipe.prompt is not None else None,
            group_references=split == recipe.evaluation.split,
            limit=getattr(data.limit, split),
            skip_bad_rows=data.on_bad_row == "skip",
            group=data.group,
        )
        return replace(found, layout=layout)
    except DataError as error:
        raise DataError(f"data, split {name!r}: {error}") from None


def read_splits(recipe: Recipe, source: Source) -> dict[Split, Examples]:
    """The examples of every split that the recipe needs, and of a validation split where there is one.

    Raises DataError where a split that the recipe names is not there, and RecipeError where one of the default name
    `validation` is not, and the recipe needs it.
    """
    names: dict[Split, str | None] = {
        "train": recipe.data.splits.train,
        "validation": recipe.data.splits.validation,
        "test": recipe.data.splits.test,
    }
    if not any(arm.trains for arm in recipe.arms.values()) and not isinstance(recipe.model.tokenizer, TokenizerSpec):
        del names["train"]
    if recipe.evaluation.split != "test":
        del names["test"]
    if names["validation"] == Splits().validation and names["validation"] not in source.splits:
        _require_no_validation(recipe, source)
        del names["validation"]  # no validation loss, and nothing else changes
    return {split: read_split(recipe, source, split, name) for split, name in names.items() if name is not None}


def _require_no_validation(recipe: Recipe, source: Source) -> None:
    """Raise RecipeError where the recipe needs a validation split; the data have none of the default name."""
    lacks = f"the data have no split 'validation', only {', '.join(source.splits)}; name one in data.splits.validation"
    problems = [
        Problem(("arms", name, "tune"), f"chooses the learning rate on the validation split, and {lacks}")
        for name, arm in recipe.arms.items()
        if arm.tune is not None
    ]
    if recipe.evaluation.split == "validation":
        problems.append(Problem(("evaluation", "split"), lacks))
    if recipe.training.keep == "best":
        problems.append(Problem(("training", "keep"), f"best is by the loss on the validation split, and {lacks}"))
    if recipe.training.eval_steps is not None:
        problems.append(Problem(("training", "eval_steps"), f"is for the loss on the validation split, and {lacks}"))
    if problems:
        raise RecipeError(problems)


def count_scored(recipe: Recipe) -> int | None:
    """How many examples the split that is scored has; what `data.limit` says where the data cannot be read here."""
    split = recipe.evaluation.split
    name = getattr(recipe.data.splits, split)
    try:
        return len(read_split(recipe, open_splits(recipe), split, name).examples)
    except DataError:
        limit: int | None = getattr(recipe.data.limit, split)
        return limit
