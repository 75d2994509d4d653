"""Losses of a trained model, and of the original one with less or more of the update that training made."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from tuneoff.records.base import Record
from tuneoff.records.run import RunMark


class RetainedMark(Record):
    """The texts that a model should go on to know.

    Attributes:
        source: `builtin`, or the file that the recipe names.
        sha256: The hash of the texts.
        kinds: The kind of each text.
        tokens: How many tokens of each text the loss sees.
        conditioned: What a loss is of: a `whole` text, the `rest` after its first half, or the `target` of an input.
    """

    source: str
    sha256: str
    kinds: list[str]
    tokens: list[int]
    conditioned: list[Literal["whole", "rest", "target"]]


class VariantLosses(Record):
    """Losses of the original model with a part of an arm's update.

    Attributes:
        kind: `scale`: the update times `value`, so that 0 is the original model and 1 the trained one; or `cut`: the
            update with every matrix cut to rank `value`.
        value: See `kind`.
        validation: The loss of each validation example in nats, summed over its target tokens.
        retained: The loss of each retained text in nats, summed over its tokens; of a `cut` none is computed.
        scores: The figures of the run's metrics of texts on the retained inputs that have a target, by metric; of the
            original and of the trained model alone.
    """

    kind: Literal["scale", "cut"]
    value: float
    validation: list[float]
    retained: list[float]
    scores: dict[str, float] = Field(default_factory=dict)


class UpdateLosses(Record):
    """Losses of one arm at one seed, and of variants of its update, on the same examples and texts.

    Attributes:
        settings: The part `diagnose` of the recipe that they were computed by.
        validation_tokens: The target tokens of each validation example; empty where there is no validation split.
        texts: The retained texts.
        variants: The original model (`scale` 0) and the trained one (`scale` 1) first.
        refused: Why there are no other variants, where there are none.
        seconds: How long they and the diagnosis took.
    """

    origin: RunMark | None = None
    arm: str
    seed: int
    settings: dict[str, Any]
    validation_tokens: list[int]
    texts: RetainedMark
    variants: list[VariantLosses]
    refused: str | None = None
    seconds: float

    def variant(self, kind: Literal["scale", "cut"], value: float) -> VariantLosses | None:
        """The losses of one variant; None where it was not computed."""
        return next((v for v in self.variants if v.kind == kind and v.value == value), None)
