"""What people often say of LoRA, beside what this run measured."""

from __future__ import annotations

from dataclasses import dataclass

from tuneoff.report.alike import pair_text
from tuneoff.report.comparison import ArmRow, Comparison

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


def claims(comparison: Comparison) -> list[Claim]:
    """Every claim for every finished arm that trains a part of the weights, if full fine-tuning has finished, too."""
    finished = [row for row in comparison.arms if row.seeds]
    full = next((row for row in finished if row.method == "full"), None)
    if full is None:
        return []
    others = [row for row in finished if row.method not in ("none", "full")]
    return [
        Claim(said, other.arm, _measured(what, comparison, full, other)) for other in others for said, what in CLAIMS
    ]


def _measured(what: str, comparison: Comparison, full: ArmRow, other: ArmRow) -> str:
    if what == "gradients":
        if full.parameters is None or other.parameters is None:
            return "not measured"
        fewer = 1 - other.parameters.trainable / full.parameters.trainable
        return f"{100 * fewer:.1f} % fewer"
    quantity = "train_seconds" if what == "training time" else "train_peak_bytes"
    less, more = ("faster", "slower") if what == "training time" else ("less", "more")
    cost = next(
        (c for c in comparison.costs if (c.arm, c.baseline, c.quantity) == (other.arm, full.arm, quantity)), None
    )
    if cost is None:
        return "not measured"
    ratio = cost.ratio.value
    text = f"{1 / ratio:.2f} times {less}" if ratio <= 1 else f"{ratio:.2f} times {more}"
    return text + pair_text(cost.unlike, comparison.unlike, other.arm, full.arm)
