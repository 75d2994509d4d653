"""How fast is tuneoff beside what people do today? One table, everything interleaved on the same work.

    python bench/speed.py --data FOLDER [--shape flan-t5-small] [--rounds 5] [--json FILE]

Five ways to train the same model on the same examples, each in a process of its own that works only when it is told
to (bench/speed_ways.py): the course notebook's, a careful user's of plain libraries, tuneoff full and LoRA, and peft on
the careful user's. A round lets each train on the same examples, 160 or of a large shape 16 (the notebook, whose steps
are all alike, on fewer), and then generate for the same test dialogues. Times are medians over the rounds after a first
one that is dropped; the spread is the interquartile range. FOLDER holds DialogSum's splits as jsonl.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch

from shapes import SHAPES, recipe, resolved_for
from speed_flops import model_flops
from speed_ways import EXAMPLES_PER_STEP, PRECISION, WAYS, Spec
from tuneoff.data.tokens import load_tokens
from tuneoff.folder import RunFolder


@dataclass(frozen=True)
class Round:
    """How much every way does in a round.

    Attributes:
        examples: What is trained on.
        generated: Test dialogues that are written for.
        notebook_steps: Training steps of the notebook's way, which are all alike.
        one_by_one: Test dialogues that the notebook's way writes for, one at a time.
    """

    examples: int = 160
    generated: int = 64
    notebook_steps: int = 1
    one_by_one: int = 6


LARGE = Round(examples=16, generated=8, one_by_one=1)  # a step of these takes many seconds on two cores
ROUNDS = {
    "nano": Round(notebook_steps=6),
    "llama-3m": Round(notebook_steps=6),
    "smollm2-135m": LARGE,
    "llama-1b": LARGE,
    "llama-8b": LARGE,
}


class Way:
    """One way at work in a process of its own, which does what it is told and waits."""

    def __init__(self, name: str, spec: Path, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        script = Path(__file__).with_name("speed_ways.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), name, str(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
            env=environment,
        )
        self._log = log
        self._answer()  # it is ready

    def ask(self, order: str, count: int = 0) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order} {count}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} died:\n{self._log.read_text()[-3000:]}")
        answer: dict[str, float] = json.loads(line)
        return answer


def matrix_peak(dtype: torch.dtype) -> float:
    """FLOP/s of a product of 2048 × 2048 matrices, median of 5."""
    a, b = torch.randn(2, 2048, 2048).to(dtype)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - began)
    return 2 * 2048**3 / median(seconds)


def measure(shape: str, data: str, rounds: int, chosen: list[str], work: Path) -> dict[str, Any]:
    folder = RunFolder(work / "run")
    folder.path.mkdir(parents=True)
    own = ROUNDS.get(shape, Round())
    asked = recipe(shape, data, test=own.generated)
    resolved = resolved_for(asked, folder)
    steps = own.examples // EXAMPLES_PER_STEP
    spec = Spec(
        shape=shape,
        model=resolved.model_path,
        tokenizer=resolved.tokenizer_path,
        tokens=resolved.tokens,
        examples=own.examples,
        rounds=rounds + 2,  # the first is dropped, and a part of one goes to memory
        work=str(work),
    )
    (work / "spec.json").write_text(json.dumps(vars(spec)))
    ways = [Way(name, work / "spec.json", work / f"{name}.log") for name in chosen]
    train: dict[str, list[float]] = {name: [] for name in chosen}
    generate: dict[str, list[float]] = {name: [] for name in chosen}
    peaks: list[float] = []
    memory: dict[str, float] = {}
    for number in range(rounds + 1):
        peak = matrix_peak(PRECISION.dtype)
        for way in ways:
            count = own.notebook_steps if way.name == "notebook" else steps
            if number:
                answer = way.ask("train", count)
                train[way.name].append(answer["examples"] / answer["seconds"])
                continue
            # The first epoch warms up, with an allocator that keeps nothing; the second begins with its longest steps.
            way.ask("memory", count)
            memory[way.name] = way.ask("memory", 2)["bytes"]
        if number:
            peaks.append(peak)
        print(f"training, round {number} of {rounds}", file=sys.stderr, flush=True)
    losses = {way.name: way.ask("finish")["loss"] for way in ways}
    for number in range(rounds + 1):
        for way in ways:
            answer = way.ask("generate", own.one_by_one if way.name == "notebook" else own.generated)
            if number:
                generate[way.name].append(answer["examples"] / answer["seconds"])
        print(f"generation, round {number} of {rounds}", file=sys.stderr)
    work_done = model_flops(spec.model, load_tokens(spec.tokens["train"]).select(range(own.examples)))
    return {
        "shape": shape,
        "rounds": rounds,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "precision": f"{PRECISION.name}: {PRECISION.reason}",
        "matrix_peak": median(peaks),
        "ways": {
            name: {
                "train": train[name],
                "generate": generate[name],
                "tokens_per_second": median(train[name]) * work_done.tokens / own.examples,
                "share_of_peak": median(train[name])
                / own.examples
                * work_done.flops(WAYS[name].frozen)
                / median(peaks),
                "peak_bytes": memory[name],
                "loss": losses[name],
            }
            for name in chosen
        },
        "ratios": {
            name: median(speeds[one]) / median(speeds[other])
            for name, speeds, one, other in (
                ("full_vs_notebook", train, "tuneoff-full", "notebook"),
                ("full_vs_tuned", train, "tuneoff-full", "tuned"),
                ("lora_vs_full", train, "tuneoff-lora", "tuneoff-full"),
                ("generate_vs_notebook", generate, "tuneoff-full", "notebook"),
                ("generate_vs_tuned", generate, "tuneoff-full", "tuned"),
            )
            if one in chosen and other in chosen
        },
    }


def table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['shape']}, {result['rounds']} rounds, {result['precision'].split(':')[0]} products at "
        f"{result['matrix_peak'] / 1e12:.2f} TFLOP/s",
        "",
        "| way | training, examples/s | real tokens/s | of the peak | peak memory | loss | generation, examples/s |",
        "| --- " * 7 + "|",
    ]
    for name, way in result["ways"].items():
        lines.append(
            f"| {name} | {spread(way['train'])} | {way['tokens_per_second']:,.0f} | {100 * way['share_of_peak']:.0f} % "
            f"| {way['peak_bytes'] / 2**20:,.0f} MiB | {way['loss']:.3f} | {spread(way['generate'])} |"
        )
    lines += ["", *(f"- {name}: {value:.2f}" for name, value in result["ratios"].items())]
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    if len(values) < 3:
        return f"{median(values):.2f}"
    low, _, high = quantiles(values, n=4, method="inclusive")
    return f"{median(values):.2f} ({low:.2f}–{high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="the folder of DialogSum's splits")
    parser.add_argument("--shape", choices=SHAPES, default="flan-t5-small")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        result = measure(arguments.shape, arguments.data, arguments.rounds, arguments.ways, Path(work))
    print(table(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
