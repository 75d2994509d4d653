"""What an export is and how it was verified: its `export.json`."""

from __future__ import annotations

from tuneoff.records import Record


class Difference(Record):
    """An example for which the export does not write what its trial wrote."""

    id: str
    trial: str
    export: str


class Verification(Record):
    """What the export wrote for some scored examples, beside its trial's own predictions. Figures are the metric's own.

    `score` and `trial_score` are by the metric with the label `metric`, against the references, of the same examples;
    `agreement` is how many words the export's texts share with the trial's (token F1). `same_in_fp32` are the texts
    that the trial's weights write in fp32, where the export computes so and the trial did not; None where that explains
    nothing.
    """

    split: str
    examples: int
    same: int
    same_in_fp32: int | None
    empty: int
    metric: str
    score: float
    trial_score: float
    agreement: float
    first_difference: Difference | None

    def lines(self) -> list[str]:
        """What is printed of it."""
        said = [
            f"verified on {self.examples} {self.split} examples: {self.same} texts are the trial's, "
            f"{self.metric} {100 * self.score:.2f} (the trial's {100 * self.trial_score:.2f})"
        ]
        if self.same_in_fp32 is not None:
            said.append(f"{self.same_in_fp32} are what the trial's weights write in fp32, as the export computes")
        if self.first_difference is not None:
            first = self.first_difference
            said += [f"the first that differs, {first.id}", f"  trial   {first.trial}", f"  export  {first.export}"]
        return said


class Exported(Record):
    """One export: of which arm, made with which libraries, and its verification."""

    format: str
    run: str
    arm: str
    seed: int
    created: str
    versions: dict[str, str]
    verification: Verification
