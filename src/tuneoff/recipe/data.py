"""The part `data` of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tuneoff.recipe.spec import Spec, Text


class Splits(Spec):
    """What the data's own splits are called. `validation: null` where there is none."""

    train: Text = "train"
    validation: Text | None = "validation"
    test: Text = "test"


class Limit(Spec):
    """The first N examples (not rows) of a split; all where it is not given."""

    train: Annotated[int, Field(ge=1)] | None = None
    validation: Annotated[int, Field(ge=1)] | None = None
    test: Annotated[int, Field(ge=1)] | None = None


class DataSpec(Spec):
    """Where the examples come from, which columns matter, and how long they may be (in tokens).

    Rows are texts (`input` and `target`, put into the recipe's prompt), or conversations: in the column `messages`, or
    where that is not given in whatever layout the data have. Of a conversation, `train_on` says which of the
    assistant's turns are targets of training. `truncate` is the column that is cut where a prompt is too long.
    """

    source: Text | dict[Literal["train", "validation", "test"], Text]
    config: Text | None = None
    revision: Text | None = None
    input: Text | None = None
    target: Text | None = None
    messages: Text | None = None
    train_on: Literal["last", "all"] = "last"
    truncate: Text | None = None
    splits: Splits = Splits()
    limit: Limit = Limit()
    quoted_tsv: bool = False
    on_bad_row: Literal["error", "skip"] = "error"
    allow_overlap: bool = False
    max_source_length: Annotated[int, Field(ge=8)] = 512
    max_target_length: Annotated[int, Field(ge=2)] = 128

    @model_validator(mode="after")
    def _files_for_splits(self) -> Self:
        if isinstance(self.source, dict) and not {"train", "test"} <= self.source.keys():
            raise ValueError("a source given as files needs `train` and `test` (and may have `validation`)")
        return self

    @model_validator(mode="after")
    def _texts_or_conversations(self) -> Self:
        if (self.input is None) != (self.target is None):
            raise ValueError("give both `input` and `target`, or neither where the data are conversations")
        if self.input is not None and self.messages is not None:
            raise ValueError("give `input` and `target` (texts), or `messages` (conversations), not both")
        if self.input is not None and self.train_on != "last":
            raise ValueError("`train_on` is for conversations, and `input` and `target` say that these are texts")
        return self

    @property
    def has_conversations(self) -> bool:
        """Whether rows are conversations, and not texts for a prompt."""
        return self.input is None
