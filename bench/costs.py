"""Can costs be believed on a busy machine? The arms of `demo-small` beside a program that loads one core now and then.

    python bench/costs.py [--runs 10] [--idle 5] [--set training.epochs=1 …] [--json FILE]

Runs of them on an idle machine take turns with runs beside a program that works on one core during a random third
of the time, in spans of 10 seconds on average. The median of the ratios of the idle runs is taken for the truth. Told
are, for each ratio of times: how far the one from pairs is off beside the other program, how far the plain one of the
sums on the clock is off, and how often the interval of the first holds the truth. Then: how often a phase is called
busy, by the share of the CPU time that the other program took of it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from tuneoff.folder import RunFolder
from tuneoff.recipe import Recipe, Trial
from tuneoff.recipe.load import load_recipe
from tuneoff.records import BUSY, Plan, Resolved, TrialResult, Tuning
from tuneoff.report.comparison import compare
from tuneoff.runner.events import Event
from tuneoff.runner.run import Run

SPAN, SHARE = 10.0, 1 / 3  # seconds of work on average, and the share of the time that is work
COMPARED = (("lora", "train_seconds"), ("lora", "generate_seconds"), ("original", "generate_seconds"))
PHASES = {"train_seconds": "train", "generate_seconds": "evaluate"}


def work_now_and_then(path: str, seed: int) -> None:
    """Sleep for a while, work for a while, until killed. Of each tenth of a second of work, writes begin, end, CPU."""
    chance = random.Random(seed)
    with Path(path).open("w", buffering=1) as file:
        while True:
            time.sleep(chance.expovariate(SHARE / (1 - SHARE) / SPAN))
            until = time.time() + chance.expovariate(1 / SPAN)
            while time.time() < until:
                began, used = time.time(), time.process_time()
                while time.time() - began < 0.1:
                    pass
                file.write(f"{began} {time.time()} {time.process_time() - used}\n")


@contextmanager
def beside(seed: int, path: Path) -> Iterator[None]:
    """The other program works meanwhile."""
    other = multiprocessing.get_context("spawn").Process(target=work_now_and_then, args=(str(path), seed), daemon=True)
    other.start()
    try:
        yield
    finally:
        other.terminate()
        other.join()


@dataclass
class Phases:
    """Listens to a run: when each phase of each trial began and ended."""

    spans: list[tuple[str, str, float, float]] = field(default_factory=list)
    _arm: str | None = None
    _open: tuple[str, str, float] | None = None

    def begins(self, trial: Trial | None, rate: float | None = None) -> None:
        self._close()
        self._arm = trial.arm if trial is not None else None

    def tells(self, event: Event) -> None:
        if event.kind == "phase":
            self._close()
            self._open = (self._arm, event.text, time.time()) if self._arm else None

    def ends(self, trial: Trial, result: TrialResult, kept: bool) -> None:
        self._close()
        if result.status != "done":
            sys.exit(f"{trial.arm} failed: {result.failure}")

    def resolved(self, resolved: Resolved) -> None: ...

    def planned(self, plan: Plan) -> None: ...

    def tuned(self, tuning: Tuning) -> None: ...

    def warns(self, text: str) -> None: ...

    def _close(self) -> None:
        if self._open is not None:
            self.spans.append((*self._open, time.time()))
            self._open = None


def taken_by_phase(path: Path, spans: list[tuple[str, str, float, float]]) -> dict[tuple[str, str], float]:
    """The share of the machine's CPU time that the other program took of each arm's phases, each of several spans."""
    lines = path.read_text().splitlines() if path.exists() else []
    work = [tuple(map(float, line.split())) for line in lines if line.count(" ") == 2]
    cpu: Counter[tuple[str, str]] = Counter()
    wall: Counter[tuple[str, str]] = Counter()
    for arm, phase, begin, end in spans:
        wall[arm, phase] += end - begin
        for since, until, used in work:
            cpu[arm, phase] += used * max(0.0, min(until, end) - max(since, begin)) / (until - since)
    cores = len(psutil.Process().cpu_affinity())
    return {key: cpu[key] / (seconds * cores) for key, seconds in wall.items()}


def measure(recipe: Recipe, prepared: Path, seed: int | None) -> dict[str, Any]:
    """One run, beside the other program where there is a `seed` for it."""
    with tempfile.TemporaryDirectory() as work:
        folder, phases, log = RunFolder(Path(work) / "run"), Phases(), Path(work) / "other"
        if prepared.exists():
            shutil.copytree(prepared, folder.path)
        run = Run(recipe, folder, phases, False, [])
        if seed is None:
            run.carry_out()
        else:
            with beside(seed, log):
                run.carry_out()
        if not prepared.exists():
            shutil.copytree(folder.path, prepared, ignore=shutil.ignore_patterns("trials"))
        shares = taken_by_phase(log, phases.spans)
        comparison, _ = compare(folder)
    rows = {row.arm: row for row in comparison.arms}
    ratios = {}
    for cost in comparison.costs:
        if (cost.arm, cost.quantity) in COMPARED:
            one, other = rows[cost.arm], rows[cost.baseline]
            wall = getattr(one, cost.quantity) / getattr(other, cost.quantity)
            ratios[f"{cost.arm} {cost.quantity}"] = {
                **cost.ratio.model_dump(), "pairs": cost.pairs, "disturbed": cost.disturbed, "wall": wall,
            }  # fmt: skip
    told = [
        {"arm": arm, "phase": phase, "share": share, "busy": phase in rows[arm].busy}
        for (arm, phase), share in shares.items()
        if phase in PHASES.values()
    ]
    return {"ratios": ratios, "phases": told}


def table(idle: list[dict[str, Any]], loaded: list[dict[str, Any]]) -> str:
    """Markdown: the ratios' errors and coverage, and then a sentence on what was called busy."""
    lines = [
        "| ratio to full | idle | pairs: off, median | largest | interval holds it | pairs left out "
        "| on the clock: off, median | largest |"
    ]
    lines.append("| --- " * 8 + "|")
    for name in loaded[0]["ratios"]:
        truth, plain = (median(run["ratios"][name][key] for run in idle) for key in ("value", "wall"))
        found = [run["ratios"][name] for run in loaded]
        paired = [abs(100 * (ratio["value"] / truth - 1)) for ratio in found]
        clock = [abs(100 * (ratio["wall"] / plain - 1)) for ratio in found]
        with_ends = [ratio for ratio in found if ratio["low"] is not None]
        held = sum(ratio["low"] <= truth <= ratio["high"] for ratio in with_ends)
        out = median(ratio["disturbed"] / max(1, ratio["pairs"] + ratio["disturbed"]) for ratio in found)
        lines.append(
            f"| {name} | {truth:.3f} | {median(paired):.1f} % | {max(paired):.1f} % | {held} of {len(with_ends)} "
            f"| {100 * out:.0f} % | {median(clock):.1f} % | {max(clock):.1f} % |"
        )
    phases = [phase for run in [*idle, *loaded] for phase in run["phases"]]
    for words, low, high in (("more than 5 %", BUSY, 1.0), ("1 to 5 %", 0.01, BUSY), ("less than 1 %", -1.0, 0.01)):
        some = [phase["busy"] for phase in phases if low < phase["share"] <= high]
        lines.append(f"\nphases of which the other program took {words}: {len(some)}, called busy {sum(some)}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=10, help="beside the other program")
    parser.add_argument("--idle", type=int, default=5)
    parser.add_argument("--set", nargs="+", default=[], help="keys of the recipe to override")
    parser.add_argument("--json", type=Path, help="where every figure goes, after each run")
    arguments = parser.parse_args()
    idle: list[dict[str, Any]] = []
    loaded: list[dict[str, Any]] = []
    recipe = load_recipe("demo-small", arguments.set).recipe
    with tempfile.TemporaryDirectory() as work:
        for turn in range(max(arguments.runs, arguments.idle)):
            if len(idle) * arguments.runs <= turn * arguments.idle and len(idle) < arguments.idle:
                idle.append(measure(recipe, Path(work) / "prepared", None))
            if turn < arguments.runs:
                loaded.append(measure(recipe, Path(work) / "prepared", turn))
            print(f"{len(idle)} idle, {len(loaded)} loaded", file=sys.stderr, flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps({"idle": idle, "loaded": loaded}, indent=2) + "\n")
    print(table(idle, loaded))


if __name__ == "__main__":
    main()
