"""What one trial measured and scored, or how it died."""

from __future__ import annotations

from typing import Any, Literal

from tuneoff.records.base import Record
from tuneoff.records.checks import Checks
from tuneoff.records.run import SplitStatistics

FailureKind = Literal["exception", "out of memory", "not a number", "check", "signal", "exit"]


class Parameters(Record):
    """Numbers of parameters, each counted once however often it is tied."""

    trainable: int
    total: int


class PhaseMemory(Record):
    """Memory of one phase in bytes. `not_measured` says why a figure is missing.

    `peak` is what the trial's own work needs: on CUDA the allocator's peak; on the CPU the
    process's peak over its size before the model was loaded (in training over one step on the
    largest batch, with freed memory given back at once). `process_peak` is the most that the whole
    process held while the phase ran, the interpreter, libraries and the allocator's slack included.
    """

    peak: int | None
    process_peak: int | None
    reserved_peak: int | None = None
    components: dict[str, int] | None = None
    components_own_peaks: dict[str, int] | None = None
    not_measured: str | None = None


class Memory(Record):
    """Memory of the two phases that hold the model; an arm that trains nothing has no `train`."""

    train: PhaseMemory | None
    evaluate: PhaseMemory


class RougeScore(Record):
    """F-measure in 0…1, averaged over dialogues under three rules for several references."""

    mean: float
    best: float
    first: float


class Scores(Record):
    """What the predictions of one trial scored."""

    rouge1: RougeScore
    rouge2: RougeScore
    rougeL: RougeScore
    rougeLsum: RougeScore
    length_ratio: float
    empty_outputs: int
    truncated_outputs: int
    examples: int


class Trained(Record):
    """What training measured, written once its model is saved."""

    parameters: Parameters
    engine: str
    seconds: dict[str, float]
    memory: PhaseMemory | None
    steps: int
    examples: int
    target_tokens: int
    final_loss: float | None
    resumed_from_step: int | None
    checkpoints_rejected: list[str]
    checks: Checks | None = None


class Failure(Record):
    """How a trial died: `kind` in a few words, `message` in one line, `log` the end of what it printed."""

    kind: FailureKind
    message: str
    log: str


class TrialResult(Record):
    """One trial, finished or failed. A failed trial holds what was known when it died."""

    arm: str
    seed: int
    status: Literal["done", "failed"]
    method: str
    settings: dict[str, Any]
    engine: str | None = None
    checks: Checks | None = None
    parameters: Parameters | None = None
    seconds: dict[str, float] | None = None
    memory: Memory | None = None
    training: Trained | None = None
    scores: Scores | None = None
    signature: str | None = None
    precision: str | None = None
    data: dict[str, SplitStatistics] | None = None
    environment: dict[str, Any] | None = None
    failure: Failure | None = None
