"""The part `data` of a recipe."""

from __future__ import annotations

import codecs
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

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


class SplitSpec(Spec):
    """What is taken out of the training split: a share of its distinct inputs (0.1), or so many of them (200)."""

    validation: int | float | None = None
    test: int | float | None = None

    @field_validator("validation", "test", mode="before")
    @classmethod
    def _share_or_count(cls, value: object) -> object:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and (0 < value < 1 or (isinstance(value, int) and value >= 1))):  # type: ignore[operator]
            raise ValueError("a share between 0 and 1, such as 0.1, or a whole number of examples, such as 200")
        return value

    @model_validator(mode="after")
    def _leaves_some(self) -> Self:
        if not self.parts:
            raise ValueError("name what is split off, e.g. {validation: 0.1, test: 0.1}")
        if sum(part for part in self.parts.values() if isinstance(part, float)) >= 1:
            raise ValueError("the shares leave nothing to train on")
        return self

    @property
    def parts(self) -> dict[Literal["test", "validation"], int | float]:
        """What is split off, the test part first: another validation part leaves it as it is."""
        found: dict[Literal["test", "validation"], int | float | None] = {
            "test": self.test,
            "validation": self.validation,
        }
        return {key: value for key, value in found.items() if value is not None}


class DataSpec(Spec):
    """Where the examples come from, which columns matter, and how long they may be (in tokens).

    Rows are texts (`input` and `target`, put into the recipe's prompt), or conversations: in the column `messages`, or
    where that is not given in whatever layout the data have. Of a conversation, `train_on` says which of the
    assistant's turns are targets of training. `truncate` is the column that is cut where a prompt is too long. `group`
    is the column whose equal values mark examples that depend on each other (of one document, user or situation):
    intervals and tests resample groups. `split` takes a validation and a test part out of the training split.
    """

    source: Text | dict[Literal["train", "validation", "test"], Text]
    config: Text | None = None
    revision: Text | None = None
    input: Text | None = None
    target: Text | None = None
    messages: Text | None = None
    train_on: Literal["last", "all"] = "last"
    truncate: Text | None = None
    group: Text | None = None
    splits: Splits = Splits()
    split: SplitSpec | None = None
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    limit: Limit = Limit()
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    encoding: Text | None = None
    quoted_tsv: bool = False
    on_bad_row: Literal["error", "skip"] = "error"
    allow_overlap: bool = False
    max_source_length: Annotated[int, Field(ge=8)] = 512
    max_target_length: Annotated[int, Field(ge=2)] = 128

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str | None) -> str | None:
        try:
            if name is not None:
                codecs.lookup(name)
        except LookupError:
            raise ValueError("Python knows no such encoding; e.g. utf-8, cp1252, utf-16, shift_jis") from None
        return name

    @model_validator(mode="after")
    def _files_for_splits(self) -> Self:
        parts = self.split.parts if self.split is not None else {}
        if isinstance(self.source, dict):
            twice = [key for key in parts if key in self.source]
            if twice:
                raise ValueError(f"`source` has a file for {twice[0]!r}, and `split` would take it out of `train`")
            if not {"train", "test"} <= self.source.keys() | parts.keys() or "train" not in self.source:
                raise ValueError(
                    "a source given as files needs `train` and `test` (and may have `validation`); "
                    "`split: {test: 0.1}` takes a test part out of `train`"
                )
        if "validation" in parts and self.splits.validation is None:
            raise ValueError("`split` takes out a validation part, and `splits.validation` is null")
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
