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
            f"verified on {self.examples} {self.split} examples: {self.same} outputs are identical to the run's, "
            f"{self.metric} {100 * self.score:.2f} (the trial's {100 * self.trial_score:.2f})"
        ]
        if self.same_in_fp32 is not None:
            said.append(f"{self.same_in_fp32} are what the trial's weights write in fp32, as the export computes")
        if self.first_difference is not None:
            first = self.first_difference
            said += [f"the first that differs, {first.id}", f"  trial   {first.trial}", f"  export  {first.export}"]
        return said


class ReadBack(Record):
    """What a GGUF file was found to hold when it was read back as a model is: all that its arm is, or it is not kept.

    Attributes:
        file: Its name.
        type: How its matrices are held, such as `F16`.
        tensors: How many weights were compared with the merged model's.
        texts: How many prompts of scored examples became the same tokens by the file's tokenizer.
        template: Whether it has a chat template, which is the same then.
        composes: Whether the arm's tokenizer composes characters (Unicode NFC), which llama.cpp does not.
    """

    file: str
    type: str
    tensors: int
    texts: int
    template: bool
    composes: bool

    def lines(self) -> list[str]:
        """What is printed of it."""
        template = ", the chat template is the same" if self.template else ""
        said = [
            f"verified by reading {self.file} back: its {self.tensors} tensors are the merged model's, rounded to "
            f"{self.type} and no further, its tokenizer makes the same tokens of {self.texts} prompts{template}"
        ]
        if self.composes:
            said.append(COMPOSES)
        return said


COMPOSES = (
    "llama.cpp does not compose characters (Unicode NFC), as this tokenizer does: a text that is not in NFC becomes "
    "other tokens there"
)


class Exported(Record):
    """One export: of which arm, made with which libraries, and how it was verified.

    `verification` compares texts; it is None where `runtime`, the package that writes them, is not installed. What was
    read back in its place is `read_back`, None of formats that are not read back.
    """

    format: str
    run: str
    arm: str
    seed: int
    created: str
    versions: dict[str, str]
    verification: Verification | None
    read_back: ReadBack | None = None
    runtime: str | None = None

    @property
    def family(self) -> str:
        """The format without the type of its weights: `gguf` of `gguf-q8_0`."""
        return self.format.partition("-")[0]

    def lines(self) -> list[str]:
        """What is printed of how it was verified."""
        said = [*(self.read_back.lines() if self.read_back else [])]
        if self.verification is not None:
            return [*said, *self.verification.lines()]
        return [*said, f"{self.runtime} is not installed: no text was written with this export, and none compared"]
