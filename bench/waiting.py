"""What does it cost that waiting threads sleep, and what that they spin? Steps of training, everything interleaved.

    python bench/waiting.py --data FOLDER [--shape nano] [--rounds 10] [--steps 5]

The same training (bench/speed_ways.py, `tuneoff-full`) in a process for each policy: `sleep`, as tuneoff's trials have
it; `spin`, which is OpenMP's own default (libgomp spins for about a millisecond, then sleeps); `spin briefly`, a
thirtieth of that. In each round every process makes its steps on an idle machine, and then beside a program that works
on one core, and then beside one that multiplies matrices with as many threads as there are cores. Figures are medians
of the rounds of the seconds of a step over those of `sleep`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from shapes import SHAPES, recipe, resolved_for
from speed import Round, Way, spread
from speed_ways import EXAMPLES_PER_STEP, Spec
from tuneoff.folder import RunFolder
from tuneoff.runner.process import CHILD_DEFAULTS

POLICIES = {
    "sleep": CHILD_DEFAULTS,
    "spin": {},
    "spin briefly": {"GOMP_SPINCOUNT": "10000"},
}
OTHERS = {
    "idle": None,
    "one core taken": "while True: pass",
    "as many threads": "import torch\na = torch.randn(512, 512)\nwhile True: a @ a",
}


@contextmanager
def beside(program: str | None) -> Iterator[None]:
    """The other program works meanwhile."""
    if program is None:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", program]) as other:
        try:
            yield
        finally:
            other.kill()


def measure(shape: str, data: str, rounds: int, steps: int, work: Path) -> dict[str, dict[str, list[float]]]:
    """Seconds of a step in each round, by what else ran and by policy."""
    folder = RunFolder(work / "run")
    folder.path.mkdir(parents=True)
    resolved = resolved_for(recipe(shape, data, test=1), folder)
    examples = Round().examples
    epochs = 1 + (1 + len(OTHERS) * (rounds + 1)) * steps * EXAMPLES_PER_STEP // examples
    spec = Spec(shape, resolved.model_path, resolved.tokenizer_path, resolved.tokens, examples, epochs, str(work))
    (work / "spec.json").write_text(json.dumps(vars(spec)))
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_WAIT", "KMP_", "GOMP_"))}
    ways = {
        policy: Way("tuneoff-full", work / "spec.json", work / f"{policy}.log", {**plain, **settings})
        for policy, settings in POLICIES.items()
    }
    seconds: dict[str, dict[str, list[float]]] = {other: {policy: [] for policy in ways} for other in OTHERS}
    for way in ways.values():
        way.ask("train", steps)  # warms up
    for number in range(rounds):
        for other, program in OTHERS.items():
            with beside(program):
                for policy, way in ways.items():
                    seconds[other][policy].append(way.ask("train", steps)["seconds"] / steps)
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="the folder of DialogSum's splits")
    parser.add_argument("--shape", choices=SHAPES, default="nano")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5, help="of each process in a round, for each other program")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        seconds = measure(arguments.shape, arguments.data, arguments.rounds, arguments.steps, Path(work))
    others = [policy for policy in POLICIES if policy != "sleep"]
    print(f"| {arguments.shape} | sleep, seconds a step | {' ÷ sleep | '.join(others)} ÷ sleep |")
    print("| --- " * (1 + len(POLICIES)) + "|")
    for other, found in seconds.items():
        ratios = [
            spread([one / base for one, base in zip(found[policy], found["sleep"], strict=True)]) for policy in others
        ]
        print(f"| {other} | {median(found['sleep']):.3f} | {' | '.join(ratios)} |")


if __name__ == "__main__":
    main()
