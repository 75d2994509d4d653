"""What giving freed memory back at once costs in training time, and what it does to the peak.

    python bench/allocator.py [--rounds 3]

Trains the full arm of `demo-small` for 40 steps with the allocator quick and tidy (tuneoff.measure.allocator),
interleaved, each in a process of its own.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from shapes import resolved_for
from tuneoff.folder import RunFolder
from tuneoff.measure import allocator
from tuneoff.recipe import Trial, load_recipe
from tuneoff.records import Resolved
from tuneoff.runner.events import Reporter
from tuneoff.runner.stop import Stop
from tuneoff.runner.training import TrialTraining

RECIPE = load_recipe("demo-small", ["training.max_steps=40", "data.limit={train: 640, validation: 8, test: 8}"]).recipe
QUIET = Reporter(io.StringIO())


def one(folder: RunFolder, mode: str) -> None:
    if mode == "tidy":
        allocator.quick = allocator.tidy
    own = folder.trial("full", 0)
    trained = TrialTraining(Resolved.read(folder.resolved), Trial("full", 0), own, QUIET, Stop()).run()
    print(json.dumps({"seconds": trained.seconds["train"], "process_peak": trained.process_peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "MODE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(RunFolder(Path(arguments.one[0])), arguments.one[1])
        return
    figures: dict[str, list[dict[str, float]]] = {"quick": [], "tidy": []}
    for _ in range(arguments.rounds):
        for mode, seen in figures.items():
            with tempfile.TemporaryDirectory() as path:
                folder = RunFolder(Path(path))
                resolved_for(RECIPE, folder, QUIET)
                command = [sys.executable, __file__, "--one", path, mode]
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                seen.append(json.loads(out.splitlines()[-1]))
                print(mode, seen[-1], flush=True)
    for name, unit in (("seconds", 1.0), ("process_peak", 2**20)):
        quick, tidy = (statistics.median(f[name] for f in figures[mode]) / unit for mode in ("quick", "tidy"))
        print(f"{name}: quick {quick:.1f}, tidy {tidy:.1f}, ratio {tidy / quick:.2f}")


if __name__ == "__main__":
    main()
