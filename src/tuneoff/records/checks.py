"""What a trial checks on itself."""

from __future__ import annotations

from pydantic import Field

from tuneoff.records.base import Record


class Agreement(Record):
    """Two figures that must be equal, up to rounding.

    Attributes:
        value: The figure that is checked.
        reference: What it must be.
        difference: |value − reference| / |reference|.
        tolerance: The largest difference that passes.
    """

    value: float
    reference: float
    difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the difference is within the tolerance; NaN never is."""
        return self.difference <= self.tolerance


class Moved(Record):
    """Which tensors of the model changed in the first updates.

    Attributes:
        updates: The number of optimizer updates after which the tensors were compared with those before training.
        trainable: The number of tensors that are to be trained.
        moved: How many of them changed.
        frozen: The number of all other tensors.
        frozen_moved: How many of those changed.
    """

    updates: int
    trainable: int
    moved: int
    frozen: int
    frozen_moved: int


class Checks(Record):
    """What a trial checked on itself, on examples of its own first optimizer step, without dropout.

    Attributes:
        examples: The number of examples that the losses are of.
        loss: The engine's loss in nats a target token against that of plain transformers.
        gradient_norm: The same of the L2 norm of the gradient.
        split_loss: The loss of the examples one by one (micro-batches of 1) against that of all together.
        split_gradient_norm: The same of the L2 norm of the gradient.
        moved: Which tensors the first updates changed.
        reloaded_tensors: How many trained tensors of the saved and reloaded model are bit for bit those of the trained
            one (rounded, where they are loaded in bf16). A tensor that is saved in another shape is not compared.
        reloaded_loss: The loss of the saved and reloaded model against that of the trained one.
        seconds: What the checks took.
        not_checked: Why a figure is missing, where one is.
    """

    examples: int
    loss: Agreement | None = None
    gradient_norm: Agreement | None = None
    split_loss: Agreement | None = None
    split_gradient_norm: Agreement | None = None
    moved: Moved | None = None
    reloaded_tensors: int | None = None
    reloaded_loss: Agreement | None = None
    seconds: float = 0.0
    not_checked: list[str] = Field(default_factory=list)
