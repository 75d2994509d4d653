"""A run in progress as a page shows it: how far it is, the learning curves so far, memory, and the table of arms."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from tuneoff.errors import DamagedFileError, TuneoffError
from tuneoff.folder import RunFolder
from tuneoff.records import PhaseMemory, Progress, read_history
from tuneoff.report.arms import Arm
from tuneoff.report.chart import Chart
from tuneoff.report.charts import Curve, learning, stacked
from tuneoff.report.comparison import Comparison, compare
from tuneoff.report.page.build import template
from tuneoff.report.page.sections import PARTS
from tuneoff.report.table import table_cells, table_columns
from tuneoff.report.verdict import verdict
from tuneoff.units import bytes_text, duration_text

SILENT = 60.0  # seconds without a sign after which a run is taken to have ended


class Live:
    """Shows the run in `folder`, again and again, without doing again what its files do not ask for."""

    def __init__(self, folder: RunFolder) -> None:
        folder.require()
        self._folder = folder
        self._compared: tuple[object, Comparison, list[Arm]] | None = None

    def fragment(self) -> str:
        """The part of the page that changes, as HTML."""
        progress = self._progress()
        try:
            comparison, arms = self._comparison()
        except TuneoffError as error:  # in the moment of a change, or before there is anything to read
            return template("live.html.j2").render(**self._values(progress), trouble=str(error))
        return template("live.html.j2").render(
            **{**self._values(progress), **self._results(comparison, arms)}, trouble=None
        )

    def _progress(self) -> Progress | None:
        with suppress(DamagedFileError):
            return Progress.read(self._folder.progress) if self._folder.progress.is_file() else None
        return None

    def _comparison(self) -> tuple[Comparison, list[Arm]]:
        """The comparison so far: made anew where a trial has ended, since its intervals take the CPU from the run."""
        results = sorted(self._folder.path.glob("trials/*/seed-*/*.json"))
        files = [self._folder.resolved, self._folder.plan, *(path for path in results if path.name != "checks.json")]
        mark = [(str(path), path.stat().st_mtime_ns) for path in files if path.is_file()]
        if self._compared is None or self._compared[0] != mark:
            self._compared = (mark, *compare(self._folder))
        return self._compared[1], self._compared[2]

    def _values(self, progress: Progress | None) -> dict[str, Any]:
        """What is shown of a run's progress, and nothing of its results."""
        running = progress is not None and progress.running
        return {
            "state": state_text(progress),
            "details": _details(progress) if progress is not None and running else [],
            "share": progress.done / progress.total if progress is not None and running and progress.total else None,
            "columns": [],
            "rows": [],
            "learning": [],
            "memory": [],
            "verdict": [],
        }

    def _results(self, comparison: Comparison, arms: Sequence[Arm]) -> dict[str, Any]:
        colours = {row.arm: n % 8 for n, row in enumerate(comparison.arms)}
        return {
            "columns": table_columns(comparison),
            "rows": [table_cells(row, comparison) for row in comparison.arms],
            "learning": _curves(arms, colours),
            "memory": _memory(arms),
            "colours": {arm.name: colours[arm.name] for arm in arms if arm.spec.trains},
            "verdict": verdict(comparison),
        }


def state_text(progress: Progress | None) -> str:
    """One sentence on what the run is doing."""
    if progress is None:
        return "The run has not told how far it is."
    if not progress.running:
        return "The run is not at work: it has ended, or it was interrupted."
    ago = time.time() - progress.updated
    if ago > SILENT:
        return f"No sign of the run for {duration_text(ago)}: it may have been killed."
    if progress.arm is None:
        return f"Preparing: {progress.phase}." if not progress.phase.startswith("diagnose") else f"{progress.phase}."
    rate = f" at the learning rate {progress.rate:g}" if progress.rate is not None else ""
    return f"Trial {progress.trial} of {progress.trials}: {progress.arm}, seed {progress.seed}{rate}: {progress.phase}."


def _details(progress: Progress) -> list[tuple[str, str]]:
    """What is known of the phase at work: names and figures."""
    found = [
        ("done", f"{progress.done:,} of {progress.total:,}" if progress.total else None),
        ("training loss", f"{progress.loss:.3f} nats per token" if progress.loss is not None else None),
        ("speed", f"{progress.tokens_per_second:,.0f} tokens per second" if progress.tokens_per_second else None),
        (
            f"{progress.device} in use",
            f"{100 * progress.device_share:.0f} %" if progress.device_share is not None else None,
        ),
        ("memory", bytes_text(progress.memory_bytes) if progress.memory_bytes is not None else None),
        ("left of this phase", _left(progress.phase_seconds_left)),
        ("left of the run", _left(progress.run_seconds_left)),
    ]
    return [(name, value) for name, value in found if value is not None]


def _left(seconds: float | None) -> str | None:
    return f"about {duration_text(seconds)}" if seconds is not None else None


def _curves(arms: Sequence[Arm], colours: Mapping[str, int]) -> list[Chart]:
    """The losses of each arm so far, at the first seed that has any."""
    curves = []
    for arm in arms:
        history = next((lines for own in arm.folders.values() if (lines := read_history(own.history))), [])
        train = [(line["step"], line["loss"]) for line in history if "loss" in line]
        validation = [(line["step"], line["eval_loss"]) for line in history if "eval_loss" in line]
        if train:
            curves.append(Curve(arm.name, colours[arm.name], train, validation))
    return [learning(curves, "optimizer steps", lambda v: f"{v:g}")] if curves else []


def _memory(arms: Sequence[Arm]) -> list[Chart]:
    """The memory of each arm's first training step, as soon as it is measured."""
    bars: dict[str, dict[str, float]] = {}
    for arm in arms:
        for own in arm.folders.values():
            with suppress(DamagedFileError):
                found = PhaseMemory.read(own.step_memory) if own.step_memory.is_file() else None
                if found is not None and found.components and arm.name not in bars:
                    tensors = {part: float(size) for part, size in found.components.items()}
                    rest = max(0.0, (found.peak or 0.0) - sum(tensors.values()))
                    bars[arm.name] = {**tensors, "process": rest}
    return [stacked(bars, PARTS, "Memory of a training step, by what it is for", bytes_text)] if bars else []
