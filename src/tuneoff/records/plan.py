"""What a run is predicted to take."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tuneoff.records.base import Record
from tuneoff.records.trial import Parameters


class PlannedStep(Record):
    """A training step as predicted, on one micro-batch of padded lengths: bytes of live tensors at its peak.

    `without_slack` of them, besides weights and state, are no reason for the allocator to keep others: blocks of the
    step that it gives back once freed, and sums of gradients.
    """

    examples: int
    source_tokens: int
    target_tokens: int
    peak: int
    components: dict[str, int]
    without_slack: int = 0


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
    """Whether an arm's processes fit a device, and the largest micro-batch with which they do.

    `fits` is "tight" where what is needed and what there is differ by less than a prediction can err.
    """

    device: str
    capacity: int
    fits: Literal["yes", "tight", "no"]
    micro_batch: int | None
    advice: list[Advice]


class PlannedArm(Record):
    """What an arm is predicted to take, in bytes and seconds.

    Attributes:
        arm: Its name.
        method: `none`, `full` or peft's name.
        parameters: Numbers of trainable and of all parameters.
        rank: The rank that was solved for the recipe's `params`, and `asked`, these; None where it has none.
        states: Weights, gradients and optimizer state by arithmetic: numbers of parameters × element sizes.
        saved_bytes: The size of what training saves.
        engine: The name of its engine, and why that one.
        longest: A training step on the longest batch: its `peak`, and the `components` alive then.
        typical: The same on a batch of typical length.
        validate_peak: The peak of validation, the optimizer's state there; None where nothing is validated.
        evaluate_peak: The peak of generation on the longest batch.
        process_peak: What a process of the arm holds at most in any phase: libraries, tensors, the allocator's slack.
        slack: How many of these bytes the allocator holds beside what is alive.
        seconds: Of `train`, `evaluate` and in `total`, each as `value`, `low` and `high`.
        speed: What the seconds are reckoned from.
        fits: Whether it fits this machine (the first), and each of `devices`; the advice where it does not.
        not_predicted: Why a step could not be computed, where it could not.
    """

    arm: str
    method: str
    parameters: Parameters | None
    rank: int | None = None
    asked: int | None = None
    states: dict[str, int]
    saved_bytes: int | None
    engine: str | None = None
    longest: PlannedStep | None = None
    typical: PlannedStep | None = None
    validate_peak: int | None = None
    evaluate_peak: int | None = None
    process_peak: int | None = None
    slack: int | None = None
    seconds: dict[str, Range] | None = None
    speed: str | None = None
    fits: list[Fit] = Field(default_factory=list)
    not_predicted: str | None = None


class Plan(Record):
    """What a run is predicted to take.

    Attributes:
        device: This machine's, which it is made for.
        precision: bf16 or fp32, and why.
        libraries: The bytes that a process holds before it loads a model (on CUDA: its context, of the GPU's memory).
            Peaks are over them, but for `process_peak` and that of an advice.
        micro_batch: How many of the longest examples go through the model at once.
        steps: Optimizer steps of an arm that trains.
        arms: What each arm takes.
        diagnosis: Seconds of the diagnosis of all trials, once they are done; None where there is none, or they are not
            predicted.
    """

    device: str
    precision: str
    libraries: int
    micro_batch: int
    steps: int
    arms: list[PlannedArm]
    diagnosis: Range | None = None
