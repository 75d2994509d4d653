"""How a run is shown while it goes: live bars on a terminal, plain lines elsewhere. On standard error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress as bars
from rich.console import Console, Group
from rich.live import Live
from rich.status import Status
from rich.text import Text

from tuneoff.cli.terminal import Terminal
from tuneoff.folder import RunFolder
from tuneoff.recipe import Trial
from tuneoff.records import Plan, Progress, Resolved, SplitStatistics, TrialResult, Tuning
from tuneoff.report.plan import planned_lines
from tuneoff.report.tuning import tuning_text
from tuneoff.runner.events import Event
from tuneoff.score.metrics import find_metric
from tuneoff.units import duration_text

PLAIN_INTERVAL = 10.0  # seconds between two plain lines of progress


@contextmanager
def watch(folder: RunFolder) -> Iterator[Lines | Bars]:
    """A listener for a run: bars where standard error is a terminal."""
    console = _console()
    if not console.is_terminal:
        yield Lines(console)
        return
    bars = Bars(console)
    with bars.live:
        yield bars


@contextmanager
def telling() -> Iterator[Phases]:
    """Who is told how a plan goes: a spinner with the phase at work where standard error is a terminal."""
    console = _console()
    with console.status("") as status:
        yield Phases(status)


def _console() -> Console:
    """Standard error; in a notebook plain standard output, where rich would make an output of its own of each line."""
    console = Terminal(stderr=True)
    return Terminal(force_jupyter=False, force_terminal=False) if console.is_jupyter else console


class Phases:
    """The phase at work, and how far it is."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._name = ""

    def phase(self, name: str) -> None:
        self._name = name
        self._status.update(name)

    def progress(self, done: int, total: int) -> None:
        self._status.update(f"{self._name} {done}/{total}")


class Lines:
    """A line when a phase begins, one every few seconds while it lasts, one at the end of a trial."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._label = ""
        self._phase = ""
        self._spoke = 0.0

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def begins(self, trial: Trial | None, rate: float | None = None) -> None:
        self._label = _label(trial, rate)

    def tells(self, event: Event, progress: Progress) -> None:
        if event.kind == "phase":
            self._phase = event.text
            self._spoke = time.monotonic()
            self.say(f"[{self._label}] {event.text}{_of_trials(progress)}")
        elif event.kind == "progress" and time.monotonic() - self._spoke >= PLAIN_INTERVAL:
            self._spoke = time.monotonic()
            told = "  ".join([f"{event.done}/{event.total}", *progress_details(progress)])
            self.say(f"[{self._label}] {self._phase} {told}")

    def resolved(self, resolved: Resolved) -> None:
        for line in _summary(resolved):
            self.say(line)

    def planned(self, plan: Plan) -> None:
        for line in planned_lines(plan):
            self.say(line)

    def tuned(self, tuning: Tuning) -> None:
        self.say(f"[{tuning.arm}] {tuning_text(tuning)}")

    def warns(self, text: str) -> None:
        self.say(f"warning: {text}")

    def ends(self, trial: Trial, result: TrialResult, kept: bool) -> None:
        self.say(f"[{_label(trial)}] {_outcome(result, kept)}")

    def diagnoses(self) -> None:
        self._label = "diagnose"


class Bars:
    """A bar for the phase at work with a line of details below, and a line for each trial that has ended."""

    def __init__(self, console: Console) -> None:
        self._bars = bars.Progress(
            bars.SpinnerColumn(),
            bars.TextColumn("{task.description:<12}", markup=False),
            bars.TextColumn("{task.fields[phase]:<9}", style="dim", markup=False),
            bars.BarColumn(bar_width=18),
            bars.TextColumn("{task.fields[state]:>12}", markup=False),
            bars.TimeElapsedColumn(),
        )
        self._details = Text(no_wrap=True, overflow="ellipsis", style="dim")
        self.live = Live(Group(self._bars, self._details), console=console)
        self._label = ""
        self._task: bars.TaskID | None = None

    def say(self, text: str) -> None:
        self.live.console.print(text, markup=False, soft_wrap=True)

    def begins(self, trial: Trial | None, rate: float | None = None) -> None:
        self._label = _label(trial, rate)

    def tells(self, event: Event, progress: Progress) -> None:
        if event.kind == "phase":
            self._clear()
            self._task = self._bars.add_task(self._label, total=None, phase=event.text, state="")
        elif event.kind == "progress" and self._task is not None:
            state = f"{event.done}/{event.total}"
            self._bars.update(self._task, completed=event.done, total=event.total, state=state)
        self._details.plain = "  ".join([f" {_of_trials(progress)}", *progress_details(progress)])

    def resolved(self, resolved: Resolved) -> None:
        self._clear()
        for line in _summary(resolved):
            self.say(line)

    def planned(self, plan: Plan) -> None:
        for line in planned_lines(plan):
            self.say(line)

    def tuned(self, tuning: Tuning) -> None:
        self._clear()
        self.say(f"{tuning.arm}: {tuning_text(tuning)}")

    def warns(self, text: str) -> None:
        self._clear()
        self.say(f"warning: {text}")

    def ends(self, trial: Trial, result: TrialResult, kept: bool) -> None:
        self._clear()
        self.say(f"{_label(trial)}: {_outcome(result, kept)}")

    def diagnoses(self) -> None:
        self._label = "diagnose"

    def _clear(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
        self._details.plain = ""


def _label(trial: Trial | None, rate: float | None = None) -> str:
    if trial is None:
        return "prepare"
    if rate is not None:
        return f"{trial.arm} at {rate:g}"
    return trial.arm if trial.seed == 0 else str(trial)


def _of_trials(progress: Progress) -> str:
    return f" (trial {progress.trial} of {progress.trials})" if progress.trial else ""


def progress_details(progress: Progress) -> list[str]:
    """Loss, pace, use of the device and time left, as far as they are known."""
    found = []
    if progress.loss is not None:
        found.append(f"loss {progress.loss:.3f}")
    if progress.tokens_per_second is not None:
        found.append(f"{progress.tokens_per_second:,.0f} tokens/s")
    if progress.device_share is not None:
        found.append(f"{progress.device} {100 * progress.device_share:.0f} %")
    left = [
        f"{duration_text(seconds)} of the {what}"
        for what, seconds in (("phase", progress.phase_seconds_left), ("run", progress.run_seconds_left))
        if seconds is not None
    ]
    return [*found, f"left: {', '.join(left)}"] if left else found


def _summary(resolved: Resolved) -> list[str]:
    lines = [
        f"data {split}: {told_examples(s)}{f' in {s.groups:,} groups' if s.groups else ''}, {s.references:,} targets, "
        f"{(s.input_tokens + s.target_tokens) / (s.sequences or s.examples):.0f} tokens each"
        for split, s in resolved.data.items()
    ]
    return lines + [f"warning: {warning}" for warning in resolved.warnings]


def _outcome(result: TrialResult, kept: bool) -> str:
    if result.failure is not None:
        return f"failed: {result.failure.kind}: {result.failure.message}"
    assert result.scores is not None and result.seconds is not None
    took = "finished before" if kept else duration_text(sum(result.seconds.values()))
    metric = find_metric(next(iter(result.scores.metrics)))
    return f"done ({took}): {metric.label} {metric.shown(metric.of_trial(result.scores.metrics[metric.name]))}"


def told_examples(statistics: SplitStatistics) -> str:
    """How many examples there are, and in how many rows of tokens, where turns of a conversation share one."""
    count, sequences = statistics.examples, statistics.sequences or statistics.examples
    if sequences == count:
        return f"{count:,} examples"
    return f"{count:,} examples (turns of the assistant, in {sequences:,} sequences of tokens)"
