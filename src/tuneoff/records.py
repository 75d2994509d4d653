"""The frozen records that a run leaves, and their JSON. Bytes, seconds and counts; docs/results.md explains each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from tuneoff.folder import write_json

FailureKind = Literal["exception", "out of memory", "not a number", "check", "signal", "exit"]


class Record(BaseModel):
    """A frozen record that reads and writes one JSON file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls.model_validate_json(path.read_text(encoding="utf-8"))


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


class SplitStatistics(Record):
    """What was read of one split. Tokens are those that the model sees, after truncation."""

    rows: int
    examples: int
    references: int
    skipped_rows: int
    duplicate_rows: int
    truncated_inputs: int
    truncated_targets: int
    input_tokens: int
    target_tokens: int
    non_ascii_references: int
    content_sha256: str


class ChosenEngine(Record):
    """The engine that computes an arm's loss and text, and why that one.

    Attributes:
        name: `plain`, or the name of a faster engine of `tuneoff.model.engines`, such as `t5`.
        reason: Why it was chosen, for people.
    """

    name: str
    reason: str


class Resolved(Record):
    """The resolved recipe: all that a trial runs by, with nothing left open. Trials read `resolved.json` and no other.

    A model or tokenizer of the hub is pinned by its commit; one that lies in a folder of this machine by a hash of its
    files' names and contents (`tuneoff.data.contents`), and has no commit.

    Attributes:
        directory: The working directory that relative paths of the user's recipe were resolved against.
        recipe: The recipe as JSON, local paths absolute; `tuneoff.recipe.resolved_recipe` gives it typed.
        model_path: The hub's name of the original model, or its folder.
        model_revision: Its commit on the hub.
        model_sha256: The hash of the folder's config and weights.
        model_class: Encoder-decoder or decoder-only.
        tokenizer_path: The hub's name of the tokenizer, or its folder.
        tokenizer_revision: Its commit on the hub.
        tokenizer_sha256: The hash of the folder's tokenizer files.
        data_revision: The commit of a data set of the hub.
        tokens: The folder of each split's tokens.
        data: What was read of each split.
        engines: The engine of each arm.
        micro_batch: How many of the longest examples go through the model at once.
        learning_rates: Each arm's; None for an arm that trains nothing, and until the search of an arm with `tune` has
            chosen one.
        warnings: What the user should know of the data, a sentence each.
    """

    directory: str
    recipe: dict[str, Any]
    model_path: str
    model_revision: str | None
    model_sha256: str | None
    model_class: Literal["seq2seq", "causal"]
    tokenizer_path: str
    tokenizer_revision: str | None
    tokenizer_sha256: str | None
    data_revision: str | None
    tokens: dict[str, str]
    data: dict[str, SplitStatistics]
    engines: dict[str, ChosenEngine]
    micro_batch: int
    learning_rates: dict[str, float | None]
    warnings: list[str]

    def with_rate(self, arm: str, learning_rate: float) -> Resolved:
        """The same with the learning rate that a search has chosen for `arm`."""
        return self.model_copy(update={"learning_rates": {**self.learning_rates, arm: learning_rate}})


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
    not_checked: list[str] = []


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
        engine: fast or plain, and why.
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
    fits: list[Fit] = []
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


class Failure(Record):
    """How a trial died: `kind` in a few words, `message` in one line, `log` the end of what it printed."""

    kind: FailureKind
    message: str
    log: str


class Try(Record):
    """One learning rate tried: its validation loss after `steps`, in nats a target token; None where it died."""

    learning_rate: float
    steps: int
    validation_loss: float | None
    seconds: float
    failure: Failure | None = None


class Tuning(Record):
    """An arm's search for its learning rate: every try, and the one whose validation loss is lowest."""

    arm: str
    tries: list[Try]
    chosen: float


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


class Prediction(Record):
    """One test dialogue: its references, what the arm wrote, and ROUGE against each reference."""

    id: str
    input: str
    references: list[str]
    prediction: str
    truncated: bool
    rouge1: list[float]
    rouge2: list[float]
    rougeL: list[float]
    rougeLsum: list[float]


def read_predictions(path: Path) -> list[Prediction]:
    """Every prediction of a trial, in the order of the data."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return [Prediction.model_validate_json(line) for line in lines if line]


def read_history(path: Path) -> list[dict[str, Any]]:
    """Every whole line of a `history.jsonl`; a process killed while writing leaves a part of one."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").split("\n"):
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines
