"""What one trial measured and scored, or how it died."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tuneoff.records.base import Record
from tuneoff.records.checks import Checks
from tuneoff.records.interval import Interval
from tuneoff.records.run import RunMark, SplitStatistics

FailureKind = Literal["exception", "out of memory", "disk", "not a number", "check", "signal", "exit"]


class Parameters(Record):
    """Numbers of parameters, each counted once however often it is tied."""

    trainable: int
    total: int


class PhaseMemory(Record):
    """Memory of one phase in bytes.

    Attributes:
        peak: What the trial's own work needs: on CUDA the allocator's peak of allocated bytes; on the CPU the process's
            peak over its size before the model was loaded.
        process_peak: The most of the machine's memory that the whole process held while the phase ran, the interpreter,
            libraries and the allocator's slack included.
        reserved_peak: On CUDA, the allocator's peak of reserved bytes.
        device_bytes: On CUDA, what the process holds of the device at the end of the phase by NVML, its context
            included.
        components: The bytes alive at the peak, by what they are for.
        components_own_peaks: The largest that each component was, at moments of their own.
        not_measured: Why a figure is missing.
    """

    peak: int | None
    process_peak: int | None
    reserved_peak: int | None = None
    device_bytes: int | None = None
    components: dict[str, int] | None = None
    components_own_peaks: dict[str, int] | None = None
    not_measured: str | None = None


class Memory(Record):
    """Memory of a trial.

    Attributes:
        train: One training step on the largest batch, with freed memory given back at once, so that the peak is that of
            live tensors; None for an arm that trains nothing.
        training: The whole training as it was timed, validation included.
        evaluate: Generation, in a process that has done nothing else.
        process_peak: The most that a process of the trial held in any phase: of the device on CUDA, else of the
            machine.
    """

    train: PhaseMemory | None
    training: PhaseMemory | None = None
    evaluate: PhaseMemory
    process_peak: int | None = None


class MachineLoad(Record):
    """What other programs did on the machine while a phase ran.

    Attributes:
        others: The share of the CPU time of this process's CPUs that others took, 0…1; time that the hypervisor gave
            away counts.
        switches: How often the system took a CPU away from this process (involuntary context switches).
        throttled: How often a CPU was throttled for its heat, where the system tells.
        gpu_others: The share of the GPU's time that other processes used, by NVML.
    """

    others: float | None
    switches: int | None
    throttled: int | None
    gpu_others: float | None


class Score(Record):
    """A metric's figures, averaged over examples under three rules for several references."""

    mean: float
    best: float
    first: float


class Scores(Record):
    """What the predictions of one trial scored.

    In JSON each metric stands beside the counts, under its name.

    Attributes:
        metrics: The figures of each metric, by its name, in the order of the recipe.
        length_ratio: Words written, over words of the references.
        empty_outputs: Texts without a character.
        truncated_outputs: Texts that were cut off at `max_new_tokens`.
        examples: How many were scored.
    """

    metrics: dict[str, Score]
    length_ratio: float
    empty_outputs: int
    truncated_outputs: int
    examples: int

    @model_validator(mode="before")
    @classmethod
    def _gather_metrics(cls, values: Any) -> Any:
        if isinstance(values, dict) and "metrics" not in values:
            known = {name: value for name, value in values.items() if name in cls.model_fields}
            return {**known, "metrics": {name: value for name, value in values.items() if name not in known}}
        return values

    @model_serializer(mode="wrap")
    def _beside_the_counts(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = written(self)
        return {**values.pop("metrics"), **values}


class KeptStep(Record):
    """Which weights were kept where those with the lowest validation loss are, and what the steps after them cost.

    Attributes:
        step: The optimizer step after which the weights were kept.
        validation_loss: Their loss on the validation split, in nats a target token.
        last_loss: That after the last step that was done; None where it is no number.
        steps_after: The steps that were done after the kept one.
        seconds_after: The seconds of training that these took.
        stopped_early: The step after which training stopped early; None where all planned steps were done.
        steps_not_done: The planned steps that were not done then; None in a record of an older tuneoff.
    """

    step: int
    validation_loss: float
    last_loss: float | None
    steps_after: int
    seconds_after: float
    stopped_early: int | None = None
    steps_not_done: int | None = None


class Trained(Record):
    """What the process that trained measured, written once its model is saved.

    Attributes:
        origin: Which run it is of; None where an older tuneoff trained it.
        parameters: Numbers of trainable and of all parameters.
        engine: The engine's name, and why that one.
        seconds: Seconds by phase.
        memory: One training step on the largest batch.
        memory_whole: The whole training.
        process_peak: The most that the process held in any phase, as `Memory.process_peak`.
        load: What other programs did meanwhile, by phase.
        environment: What it was trained on.
        steps: Optimizer steps that were done.
        kept: The weights that were kept, where those with the lowest validation loss are; None where the last ones are.
        examples: Examples trained on, each as often as it was.
        target_tokens: Their target tokens.
        final_loss: The mean loss at the end, in nats a target token.
        resumed_from_step: The step of the checkpoint that the training last went on from, if any.
        checkpoints_rejected: Checkpoints that were not whole, and why.
        checks: What the trial checked on itself.
        model_sha256: The hash of what was saved (`tuneoff.data.contents`); None where an older tuneoff saved it.
    """

    origin: RunMark | None = None
    parameters: Parameters
    engine: str
    seconds: dict[str, float]
    memory: PhaseMemory | None
    memory_whole: PhaseMemory | None = None
    process_peak: int | None = None
    load: dict[str, MachineLoad] = Field(default_factory=dict)
    environment: dict[str, Any] | None = None
    steps: int
    kept: KeptStep | None = None
    examples: int
    target_tokens: int
    final_loss: float | None
    resumed_from_step: int | None
    checkpoints_rejected: list[str]
    checks: Checks | None = None
    model_sha256: str | None = None


class Retained(Record):
    """What the trained model still knows of texts that have nothing to do with its task.

    Attributes:
        texts: How many texts there are.
        before: The original model's mean loss on them, in nats per token.
        after: The trained model's.
        difference: After minus before, with a 95 % interval over texts: above 0 where something was forgotten.
    """

    texts: int
    before: float
    after: float
    difference: Interval


class Failure(Record):
    """How a trial died: `kind` in a few words, `message` in one line, `log` the end of what it printed."""

    kind: FailureKind
    message: str
    log: str


class TrialResult(Record):
    """One trial, finished or failed. A failed trial holds what was known when it died.

    `origin` is None in a result of an older tuneoff. `retained` is there once the run's trials have been diagnosed.
    """

    origin: RunMark | None = None
    arm: str
    seed: int
    status: Literal["done", "failed"]
    method: str
    settings: dict[str, Any]
    engine: str | None = None
    checks: Checks | None = None
    parameters: Parameters | None = None
    seconds: dict[str, float] | None = None
    load: dict[str, MachineLoad] | None = None
    memory: Memory | None = None
    training: Trained | None = None
    scores: Scores | None = None
    signature: str | None = None
    precision: str | None = None
    data: dict[str, SplitStatistics] | None = None
    environment: dict[str, Any] | None = None
    failure: Failure | None = None
    retained: Retained | None = None
