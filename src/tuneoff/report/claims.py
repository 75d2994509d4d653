"""What people often say of LoRA, beside what this run measured."""

from __future__ import annotations

from dataclasses import dataclass

from tuneoff.records import TrialResult

CLAIMS = (
    ("20 times faster", "training time"),
    ("5 times less memory", "memory of a training step"),
    ("99 % fewer gradients", "gradients"),
)


@dataclass(frozen=True)
class Claim:
    """A claim on an arm, and the measurement that it stands against."""

    said: str
    arm: str
    measured: str


def claims(baseline: TrialResult, others: list[TrialResult]) -> list[Claim]:
    """Every claim for every arm that trains fewer weights than `baseline`."""
    found = []
    for other in others:
        for said, what in CLAIMS:
            found.append(Claim(said, other.arm, _measured(what, baseline, other)))
    return found


def _measured(what: str, full: TrialResult, other: TrialResult) -> str:
    if what == "training time":
        return _ratio(_seconds(full), _seconds(other), "faster", "slower")
    if what == "gradients":
        if full.parameters is None or other.parameters is None:
            return "not measured"
        fewer = 1 - other.parameters.trainable / full.parameters.trainable
        return f"{100 * fewer:.1f} % fewer"
    return _ratio(_peak(full), _peak(other), "less", "more")


def _ratio(full: float | None, other: float | None, less: str, more: str) -> str:
    if not full or not other:
        return "not measured"
    return f"{full / other:.2f} times {less}" if full >= other else f"{other / full:.2f} times {more}"


def _seconds(result: TrialResult) -> float | None:
    return result.seconds["train"] if result.seconds else None


def _peak(result: TrialResult) -> float | None:
    return result.memory.train.peak if result.memory and result.memory.train else None
