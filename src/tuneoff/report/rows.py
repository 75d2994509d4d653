"""One row of a comparison: an arm, averaged over its finished seeds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from pydantic import Field

from tuneoff.records import BUSY, Checks, KeptStep, Parameters, Range, Record, read_times
from tuneoff.report.arms import Arm
from tuneoff.report.course import Course, course_of
from tuneoff.score.metrics import Metric


class ArmRow(Record):
    """One arm, averaged over its finished seeds. None where it was not measured.

    Attributes:
        arm: Its name.
        method: `none`, `full` or peft's name.
        seeds: The seeds that have finished.
        engine: The engine that computed it.
        checks: What each finished trial checked on itself.
        parameters: Numbers of trainable and of all parameters.
        train_seconds: The training alone.
        total_seconds: All phases, without the measuring and the checks.
        generate_seconds: The generation alone, without loading and scoring.
        train_peak_bytes: The peak of a training step, over what the process held before it loaded the model.
        generate_peak_bytes: The peak of generation, over the same, in a process that does nothing else.
        process_peak_bytes: The most that a process of the trial held in any phase, libraries included.
        busy: The share of CPU or GPU time that other programs took while it was trained (`train`) or wrote
            (`evaluate`), where it was more than 5 %.
        predicted_peak_bytes: What the plan said of `train_peak_bytes`.
        predicted_seconds: What the plan said of the seconds.
        scores: The figure of each metric of the comparison, by name.
        length_ratio: Words written over words of the references.
        empty_outputs: Outputs without text, over all seeds.
        truncated_outputs: Outputs that reached `max_new_tokens` without an end, over all seeds.
        failures: How trials died, a line each.
        course: How its training went, as far as its history and its outputs show it.
        kept: Which step's weights each finished trial kept, where those with the lowest validation loss are.
    """

    arm: str
    method: str
    seeds: list[int]
    engine: str | None = None
    checks: tuple[Checks, ...] = ()
    parameters: Parameters | None
    train_seconds: float | None
    total_seconds: float | None
    generate_seconds: float | None = None
    train_peak_bytes: float | None
    generate_peak_bytes: float | None
    process_peak_bytes: float | None = None
    busy: dict[str, float] = Field(default_factory=dict)
    predicted_peak_bytes: int | None = None
    predicted_seconds: dict[str, Range] | None = None
    scores: dict[str, float] | None
    length_ratio: float | None
    empty_outputs: int
    truncated_outputs: int
    failures: list[str]
    kept: tuple[KeptStep, ...] = ()
    course: Course | None = None


def arm_row(arm: Arm, metrics: Sequence[Metric]) -> ArmRow:
    done = list(arm.done.values())
    scores = [r.scores for r in done if r.scores is not None]
    return ArmRow(
        arm=arm.name,
        method=arm.spec.method,
        seeds=[r.seed for r in done],
        engine=done[0].engine if done else None,
        checks=tuple(r.checks for r in done if r.checks is not None),
        parameters=done[0].parameters if done else None,
        train_seconds=_mean([r.seconds["train"] for r in done if r.seconds]) if arm.spec.trains else None,
        total_seconds=_mean([_work_seconds(r.seconds) for r in done if r.seconds]),
        train_peak_bytes=_mean([r.memory.train.peak for r in done if r.memory and r.memory.train]),
        generate_seconds=_mean([r.seconds["evaluate"] for r in done if r.seconds]),
        generate_peak_bytes=_mean([r.memory.evaluate.peak for r in done if r.memory]),
        process_peak_bytes=_mean([r.memory.process_peak for r in done if r.memory]),
        busy={phase: share for phase in ("train", "evaluate") if (share := _busy(arm, phase)) > BUSY},
        predicted_peak_bytes=arm.planned.longest.peak if arm.planned and arm.planned.longest else None,
        predicted_seconds=arm.planned.seconds if arm.planned else None,
        scores={m.name: fmean(m.of_trial(s.metrics[m.name]) for s in scores) for m in metrics} if scores else None,
        length_ratio=_mean([s.length_ratio for s in scores]),
        empty_outputs=sum(s.empty_outputs for s in scores),
        truncated_outputs=sum(s.truncated_outputs for s in scores),
        failures=[
            f"seed {r.seed}: {r.failure.kind}: {r.failure.message}" for r in arm.results.values() if r and r.failure
        ],
        course=course_of(arm),
        kept=tuple(r.training.kept for r in done if r.training is not None and r.training.kept is not None),
    )


def _busy(arm: Arm, phase: str) -> float:
    """The largest share of CPU or GPU time that others took in a phase, over the finished seeds; 0 where none is known.

    A training that was resumed has its load in the times of its steps alone.
    """
    shares = [0.0]
    for seed, result in arm.done.items():
        load = (result.load or {}).get(phase)
        shares += [share for share in (load.others, load.gpu_others) if share is not None] if load else []
        steps = read_times(arm.folders[seed].step_times) if phase == "train" else []
        known = [(step.seconds, step.others) for step in steps if step.others is not None]
        if known:
            shares.append(sum(seconds * share for seconds, share in known) / sum(seconds for seconds, _ in known))
    return max(shares)


def _work_seconds(seconds: dict[str, float]) -> float:
    """The seconds of all phases but those in which the trial is measured and checked."""
    return sum(value for phase, value in seconds.items() if phase not in ("measure", "check"))


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where there is nothing, or a part was not measured."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
