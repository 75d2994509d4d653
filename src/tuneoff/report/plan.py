"""A plan on the terminal, at 80 columns: what each arm takes, by component, and where it fits."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tuneoff.records import Plan, PlannedArm, PlannedStep
from tuneoff.units import NONE, bytes_text, count_text, range_text

PARTS = ("weights", "gradients", "optimizer", "activations")


def print_plan(plan: Plan, console: Console) -> None:
    """The whole of what `tuneoff plan` prints."""
    console.print(_arms(plan))
    for note in _notes(plan):
        console.print(Padding(Text(note), (0, 0, 0, 1)))
    console.print()
    console.print(_peaks(plan.arms))
    for note in _notes_of_peaks(plan):
        console.print(Padding(Text(note), (0, 0, 0, 1)))
    components = [arm for arm in plan.arms if arm.longest]
    if components:
        console.print()
        console.print(_components(components))
    console.print()
    console.print(_fits(plan.arms))
    if any(fit.fits == "tight" for arm in plan.arms for fit in arm.fits):
        console.print(
            Padding(Text("tight: predictions err by more than what is left, or what is missing"), (0, 0, 0, 1))
        )
    for line in _advice(plan.arms):
        console.print(Padding(Text(line), (0, 0, 0, 1)))


def planned_lines(plan: Plan) -> list[str]:
    """A line for each arm and one for the diagnosis: what a run says before it begins."""
    lines = [_planned_line(arm) for arm in plan.arms]
    return lines if plan.diagnosis is None else [*lines, f"plan diagnosis: {range_text(plan.diagnosis)}"]


def _planned_line(arm: PlannedArm) -> str:
    solved = _solved(arm)
    return f"plan {arm.arm}: {f'{solved}; ' if solved else ''}{_predicted(arm)}"


def _solved(arm: PlannedArm) -> str | None:
    """The rank that was solved for `params`, and what it gives; None where the arm has no `params`."""
    if arm.rank is None or arm.asked is None:
        return None
    found = f"{arm.parameters.trainable:,} of " if arm.parameters else ""
    return f"r = {arm.rank}, solved for params ({found}{arm.asked:,} trainable parameters)"


def _predicted(arm: PlannedArm) -> str:
    if arm.not_predicted:
        return f"not predicted ({arm.not_predicted})"
    here = next(iter(arm.fits), None)
    tight = f", tight: {here.device} has {bytes_text(here.capacity)}" if here and here.fits == "tight" else ""
    return f"{bytes_text(arm.process_peak)} at most{tight}, {range_text((arm.seconds or {}).get('total'))}"


def _table(*headers: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1))
    table.add_column(headers[0], overflow="fold", min_width=min(8, len(headers[0]) + 4), max_width=16)
    for header in headers[1:]:
        table.add_column(header, justify="right", no_wrap=True)
    return table


def _arms(plan: Plan) -> Table:
    table = _table("arm", "trainable", "saved", "process memory", "time")
    for arm in plan.arms:
        table.add_row(
            arm.arm,
            count_text(arm.parameters.trainable) if arm.parameters else NONE,
            bytes_text(arm.saved_bytes),
            bytes_text(arm.process_peak),
            range_text((arm.seconds or {}).get("total")),
        )
    return table


def _notes(plan: Plan) -> list[str]:
    notes = [f"{plan.steps:,} optimizer steps in micro-batches of {plan.micro_batch}; precision {plan.precision}"]
    notes.append(
        f"process memory: at most, including {bytes_text(plan.libraries)} for libraries and the allocator's slack"
    )
    for source in dict.fromkeys(arm.speed for arm in plan.arms if arm.speed):
        notes.append(f"time of training and evaluation: {source}")
    if plan.diagnosis is not None:
        notes.append(f"then the diagnosis of what was trained: {range_text(plan.diagnosis)}")
    notes += [f"{arm.arm}: {solved}" for arm in plan.arms if (solved := _solved(arm)) is not None]
    for arm in plan.arms:
        if arm.not_predicted:
            states = ", ".join(f"{part} {bytes_text(size)}" for part, size in arm.states.items())
            notes.append(f"{arm.arm}: not predicted ({arm.not_predicted}); model states only: {states}")
    return notes


def _peaks(arms: Sequence[PlannedArm]) -> Table:
    table = _table("peaks", "training", "typical", "validating", "generating")
    for arm in arms:
        table.add_row(
            arm.arm,
            bytes_text(arm.longest.peak if arm.longest else None),
            bytes_text(arm.typical.peak if arm.typical else None),
            bytes_text(arm.validate_peak),
            bytes_text(arm.evaluate_peak),
        )
    return table


def _notes_of_peaks(plan: Plan) -> list[str]:
    notes = []
    longest = next((arm.longest for arm in plan.arms if arm.longest), None)
    typical = next((arm.typical for arm in plan.arms if arm.typical), None)
    if longest and typical:
        notes.append(f"training: the peak on the longest batch ({_shape(longest)}); typical: {_shape(typical)}")
    notes.append("peaks are above the libraries and without slack; validating and generating: on the longest batch")
    return notes


def _shape(step: PlannedStep) -> str:
    target = f" + {step.target_tokens}" if step.target_tokens else ""
    return f"{step.examples} × {step.source_tokens}{target} tokens"


def _components(arms: Sequence[PlannedArm]) -> Table:
    table = _table("at the peak", *PARTS, "other")
    for arm in arms:
        assert arm.longest is not None
        parts = [arm.longest.components.get(part, 0) for part in PARTS]
        table.add_row(arm.arm, *map(bytes_text, [*parts, arm.longest.peak - sum(parts)]))
    return table


def _fits(arms: Sequence[PlannedArm]) -> Table:
    devices = next((arm.fits for arm in arms if arm.fits), [])
    table = _table("fits", *(f"{d.device} ({bytes_text(d.capacity)})" for d in devices))
    for arm in arms:
        cells = []
        for fit in arm.fits:
            size = f", micro-batch {fit.micro_batch}" if fit.micro_batch else ""
            cells.append("no" if fit.fits == "no" else f"{fit.fits}{size}")
        table.add_row(arm.arm, *(cells or [NONE] * len(devices)))
    return table


def _advice(arms: Sequence[PlannedArm]) -> list[str]:
    lines = []
    for arm in arms:
        for fit in arm.fits:
            for advice in fit.advice:
                peak = f"{bytes_text(advice.peak)} including the libraries{'' if advice.fits else ', too much'}"
                lines.append(f"{arm.arm} on {fit.device}: {advice.change}: {peak}")
    return lines
