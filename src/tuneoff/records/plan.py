"""What a run is predicted to take."""

from __future__ import annotations

from pydantic import Field

from tuneoff.records.base import Record
from tuneoff.records.trial import Parameters


class PlannedStep(Record):
    """A training step as predicted, on one micro-batch of padded lengths: bytes of live tensors at its peak."""

    examples: int
    source_tokens: int
    target_tokens: int
    peak: int
    components: dict[str, int]


class Range(Record):
    """A predicted figure and the interval in which it is expected."""

    value: float
    low: float
    high: float


class Advice(Record):
    """A change to the recipe (as `--set` takes it, or in words) and the peak that it would have, libraries included."""

    change: str
    peak: int
    fits: bool


class Fit(Record):
    """Whether an arm's training and generation fit a device: `micro_batch` is the largest that does."""

    device: str
    capacity: int
    fits: bool
    micro_batch: int | None
    advice: list[Advice]


class PlannedArm(Record):
    """What an arm is predicted to take, in bytes and seconds.

    Attributes:
        arm: Its name.
        method: `none`, `full` or peft's name.
        parameters: Numbers of trainable and of all parameters.
        states: Weights, gradients and optimizer state by arithmetic: numbers of parameters × element sizes.
        saved_bytes: The size of what training saves.
        engine: The name of its engine, and why that one.
        longest: A training step on the longest batch: its `peak`, and the `components` alive then.
        typical: The same on a batch of typical length.
        evaluate_peak: The peak of generation on the longest batch.
        seconds: Of `train`, `evaluate` and in `total`, each as `value`, `low` and `high`.
        speed: What the seconds are reckoned from.
        fits: Whether it fits this machine (the first), and each of `devices`; the advice where it does not.
        not_predicted: Why a step could not be computed, where it could not.
    """

    arm: str
    method: str
    parameters: Parameters | None
    states: dict[str, int]
    saved_bytes: int | None
    engine: str | None = None
    longest: PlannedStep | None = None
    typical: PlannedStep | None = None
    evaluate_peak: int | None = None
    seconds: dict[str, Range] | None = None
    speed: str | None = None
    fits: list[Fit] = Field(default_factory=list)
    not_predicted: str | None = None


class Plan(Record):
    """What a run is predicted to take.

    Attributes:
        device: This machine's, which it is made for.
        precision: bf16 or fp32, and why.
        libraries: The bytes that a process holds before it loads a model. Peaks are over them.
        micro_batch: How many of the longest examples go through the model at once.
        steps: Optimizer steps of an arm that trains.
        arms: What each arm takes.
    """

    device: str
    precision: str
    libraries: int
    micro_batch: int
    steps: int
    arms: list[PlannedArm]
