"""Does the fast path learn as plain transformers does? 200 steps of each on the same batches, plotted.

    python bench/curves.py --data FOLDER [--shape flan-t5-small] [--steps 200] [--picture docs/loss-curves.svg]

Three trainings from the same weights, in the same order: the plain engine, the same with another seed for dropout,
which is the noise that the difference is held against, and the fast engine of the shape. In bf16 where the machine can.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from shapes import DECODERS, RATES, SHAPES, recipe, resolved_for
from tuneoff.data.tokens import load_tokens
from tuneoff.folder import RunFolder, TrialFolder
from tuneoff.measure.clock import Clock
from tuneoff.model.base import load_model
from tuneoff.model.device import pick_precision
from tuneoff.model.engines import engine_for
from tuneoff.model.methods import adapt
from tuneoff.model.tokenizer import load_tokenizer
from tuneoff.recipe.training import TrainingSpec
from tuneoff.records import Resolved
from tuneoff.train.loop import Training
from tuneoff.train.steps import Steps

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from chart import line_chart

SMOOTHED = 10  # points of a curve


def losses(
    resolved: Resolved, shape: str, engine: str, dropout_seed: int, steps: int, folder: Path
) -> list[tuple[float, float]]:
    """(step, training loss since the point before in nats a target token), as in `history.jsonl`."""
    spec = TrainingSpec(checkpoint_minutes=1e6)
    train = load_tokens(resolved.tokens["train"])
    kind: Any = "causal" if shape in DECODERS else "seq2seq"
    model = adapt(load_model(resolved.model_path, None, kind, torch.float32), "full", {}, kind, steps)
    bf16 = pick_precision("bf16", torch.device("cpu")).name == "bf16"
    Training(
        engine_for(engine, model, bf16=bf16),
        load_tokenizer(resolved.tokenizer_path, None),
        Steps(train=train, validation=None, seed=0, examples_per_step=spec.examples_per_step, count=steps),
        spec,
        10 * RATES["full"],  # random weights: at the course's own rate the curve would be flat
        TrialFolder(folder),
        Clock(lambda: None),
    ).run(lambda *_: torch.manual_seed(dropout_seed) and None, lambda *_: None, lambda: False)
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def smoothed(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [
        (step, mean(loss for _, loss in points[max(0, n + 1 - SMOOTHED) : n + 1])) for n, (step, _) in enumerate(points)
    ]


def gap(one: list[tuple[float, float]], other: list[tuple[float, float]]) -> tuple[float, float]:
    """(mean difference, mean absolute difference) of two curves, point by point."""
    pairs = [(a, b) for (_, a), (_, b) in zip(one, other, strict=True)]
    return mean(a - b for a, b in pairs), mean(abs(a - b) for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="the folder of DialogSum's splits")
    parser.add_argument("--shape", choices=SHAPES, default="flan-t5-small")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--picture", type=Path, help="where the SVG goes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = RunFolder(Path(work))
        asked = recipe(arguments.shape, arguments.data, test=8)
        resolved = resolved_for(asked, folder)
        curves = {}
        fast = "decoder" if arguments.shape in DECODERS else "t5"
        trainings = {"plain": ("plain", 0), "plain, other dropout": ("plain", 1), fast: (fast, 0)}
        for name, (engine, seed) in trainings.items():
            curves[name] = losses(resolved, arguments.shape, engine, seed, arguments.steps, Path(work) / name)
            print(f"{name}: {smoothed(curves[name])[-1][1]:.4f} at the end (mean of {SMOOTHED} points)", flush=True)
    for name in ("plain, other dropout", fast):
        print("{} - plain: mean {:+.4f}, mean absolute {:.4f} a step".format(name, *gap(curves[name], curves["plain"])))
    if arguments.picture:
        lines = {name: smoothed(points) for name, points in curves.items()}
        title = f"Training loss of {arguments.shape} on DialogSum, mean of {SMOOTHED} points"
        arguments.picture.write_text(line_chart(lines, title, "optimizer steps", 25), encoding="utf-8")


if __name__ == "__main__":
    main()
