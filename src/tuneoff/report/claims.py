"""What people often say of LoRA, beside what this run measured."""

from __future__ import annotations

from dataclasses import dataclass

from tuneoff.report.checking import engines_differ
from tuneoff.report.comparison import ArmRow

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


def claims(baseline: ArmRow, others: list[ArmRow]) -> list[Claim]:
    """Every claim for every one of `others`, which train fewer weights than `baseline`."""
    found = []
    for other in others:
        for said, what in CLAIMS:
            found.append(Claim(said, other.arm, _measured(what, baseline, other)))
    return found


def _measured(what: str, full: ArmRow, other: ArmRow) -> str:
    engines = f" (by other engines: {other.engine} and {full.engine})" if engines_differ(other, full) else ""
    if what == "training time":
        return _ratio(full.train_seconds, other.train_seconds, "faster", "slower", engines)
    if what == "gradients":
        if full.parameters is None or other.parameters is None:
            return "not measured"
        fewer = 1 - other.parameters.trainable / full.parameters.trainable
        return f"{100 * fewer:.1f} % fewer"
    return _ratio(full.train_peak_bytes, other.train_peak_bytes, "less", "more", engines)


def _ratio(full: float | None, other: float | None, less: str, more: str, unlike: str) -> str:
    """The ratio in words, with what is unlike between the two."""
    if not full or not other:
        return "not measured"
    return (f"{full / other:.2f} times {less}" if full >= other else f"{other / full:.2f} times {more}") + unlike
