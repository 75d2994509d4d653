"""On one GPU: an epoch of DialogSum, full and LoRA, plain and fast, the test's summaries, and a run.

    python bench/gpu.py --data FOLDER [--device cuda] [--json FILE]
    python bench/gpu.py --data FOLDER --device cpu --tiny     # does it run at all? its figures say nothing

Random weights. Each training is timed over `--share` of an epoch after steps of warm-up, told apart, and given as
seconds an epoch; the share of the matrix-product peak is that of the model's own operations on real tokens. Trainings
alternate over the rounds; figures are medians. Then `tuneoff run` compares original, full and LoRA on some of the
dialogues: what its plan predicted beside what it measured. Made to end within 8 minutes on an H200; not tried on one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml

from shapes import DECODERS, RATES, SHAPES, lora_settings, recipe, resolved_for
from speed_flops import model_flops
from tuneoff.data.tokens import load_tokens
from tuneoff.decode.generate import generate
from tuneoff.folder import RunFolder, TrialFolder
from tuneoff.measure.clock import Clock
from tuneoff.measure.memory import MemoryMeter
from tuneoff.model.base import load_model
from tuneoff.model.device import synchronize
from tuneoff.model.engines import engine_for
from tuneoff.model.merge import merged_for_generation
from tuneoff.model.methods import adapt
from tuneoff.model.tokenizer import load_tokenizer
from tuneoff.recipe.evaluation import SearchSpec
from tuneoff.recipe.schema import Recipe
from tuneoff.recipe.training import TrainingSpec
from tuneoff.records import PhaseMemory, Plan, Resolved, TrialResult
from tuneoff.report.comparison import compare as compare_run
from tuneoff.train.loop import Training
from tuneoff.train.steps import Steps

WARM_UP = 10  # steps, told apart: compilation, autotuning, the allocator's first blocks
TINY: dict[bool, dict[str, Any]] = {  # by whether it is decoder-only
    False: {
        "model_type": "t5", "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
    },
    True: {
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    },
}  # fmt: skip


class Bench:
    """The work, and what is measured on it."""

    def __init__(
        self, resolved: Resolved, shape: str, device: torch.device, examples_per_step: int, share: float
    ) -> None:
        self.resolved, self.shape, self.device, self.per_step = resolved, shape, device, examples_per_step
        self.kind: Any = "causal" if shape in DECODERS else "seq2seq"
        self.fast = "decoder" if shape in DECODERS else "t5"
        self.tokenizer = load_tokenizer(resolved.tokenizer_path, None)
        self.rows = load_tokens(resolved.tokens["train"])
        self.steps = max(1, round(share * len(self.rows) / examples_per_step))

    def train(self, method: str, engine: str, folder: Path) -> tuple[Any, dict[str, float]]:
        """The trained model; seconds of the warm-up, seconds an epoch, peak bytes."""
        meter = MemoryMeter(self.device)
        frozen = method == "lora"
        dtype = torch.bfloat16 if frozen else torch.float32
        model = load_model(self.resolved.model_path, None, self.kind, dtype)
        model = adapt(model, method, lora_settings(self.shape) if frozen else {}, self.kind, self.steps)
        spec = TrainingSpec(examples_per_step=self.per_step, checkpoint_minutes=1e6)
        steps = Steps(
            train=self.rows,
            validation=None,
            seed=0,
            examples_per_step=self.per_step,
            count=self.steps + WARM_UP,
        )
        marks: list[float] = []

        def mark(step: int, *_: Any) -> None:
            if step in (WARM_UP, self.steps + WARM_UP):  # nowhere else: it waits for the device
                synchronize(self.device)
                marks.append(time.perf_counter())

        meter.start_phase()
        began = time.perf_counter()
        Training(
            engine_for(engine, model, bf16=True),
            self.tokenizer,
            steps,
            spec,
            RATES[method],
            TrialFolder(folder),
            Clock(lambda: None),
        ).run(lambda *_: None, mark, lambda: False)
        epoch = (marks[1] - marks[0]) / self.steps * len(self.rows) / self.per_step
        return model, {"warm_up": marks[0] - began, "epoch": epoch, "peak": meter.end_phase().peak or 0}

    def generate(self, model: Any, engine: str) -> float:
        """Seconds for every test dialogue, greedily, from a bf16 model in batches of 128."""
        inputs = list(load_tokens(self.resolved.tokens["test"])["input_ids"])
        model = merged_for_generation(model, self.fast).to(torch.bfloat16)
        began = time.perf_counter()
        generate(
            engine_for(engine, model, bf16=True),
            self.tokenizer,
            inputs,
            max_new_tokens=64,
            search=SearchSpec(),
            batch_size=128,
            report=lambda *_: None,
        )
        synchronize(self.device)
        return time.perf_counter() - began


def matrix_peak(device: torch.device) -> float:
    """FLOP/s of a bf16 product of square matrices, median of 10."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    seconds = []
    for _ in range(10):
        synchronize(device)
        began = time.perf_counter()
        a @ b
        synchronize(device)
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / median(seconds)


def whole(shape: str, data: str, tiny: bool) -> Recipe:
    """All of DialogSum with random weights of a shape; `tiny`: a few dialogues and a toy."""
    values = recipe(shape, data, test=8 if tiny else 500).model_dump()
    values["data"]["limit"] = {"train": 64, "validation": 8, "test": 8} if tiny else {}
    if tiny:
        values["model"] = {"config": TINY[shape in DECODERS], "tokenizer": {"vocab_size": 1000}}
    return Recipe.model_validate(values)


def compare(asked: Recipe, per_step: int, tiny: bool, work: Path) -> list[dict[str, Any]]:
    """`tuneoff run` with three arms. Returns what was predicted and measured of each: bytes and seconds."""
    values = asked.model_dump(exclude_none=True)
    values["arms"] = {"original": {"method": "none"}, **values["arms"]}
    values["training"]["examples_per_step"] = per_step
    values["data"]["limit"] = values["data"]["limit"] if tiny else {"train": 2048, "validation": 128, "test": 256}
    values["evaluation"]["max_new_tokens"] = 64
    path, out = work / "recipe.yaml", work / "compared"
    path.write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "tuneoff", "run", str(path), "--out", str(out), "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    folder, rows = RunFolder(out), []
    comparison, _ = compare_run(folder)
    for arm in Plan.read(folder.plan).arms:
        result = TrialResult.read(folder.trial(arm.arm, 0).result)
        assert result.memory and result.seconds
        phases = [phase for _, phase in result.memory if isinstance(phase, PhaseMemory)]
        peaks = [arm.longest.peak if arm.longest else None, arm.validate_peak, arm.evaluate_peak]
        rows.append(
            {
                "arm": arm.arm,
                "not_predicted": arm.not_predicted,
                "tensors": [largest(peaks), largest([phase.peak for phase in phases])],
                "reserved": [None, largest([phase.reserved_peak for phase in phases])],
                "held": [arm.process_peak, result.memory.process_peak],
                "seconds": {
                    phase: [arm.seconds[phase].model_dump(), result.seconds[phase]]
                    for phase in ("train", "evaluate")
                    if arm.seconds and phase in arm.seconds
                },
                "costs": [cost.model_dump() for cost in comparison.costs if cost.arm == arm.arm],
            }
        )
    return rows


def largest(sizes: list[int | None]) -> int | None:
    return max((size for size in sizes if size is not None), default=None)


def compared_table(rows: list[dict[str, Any]]) -> str:
    """Markdown: predicted → measured of each arm, and the ratios to full fine-tuning with their intervals."""
    lines = ["| predicted → measured | tensors | reserved | held | training | generation |", "| --- " * 6 + "|"]
    for row in rows:
        cells = [row["arm"]]
        for name in ("tensors", "reserved", "held"):
            cells.append(" → ".join("–" if size is None else f"{size / 2**20:,.0f} MiB" for size in row[name]))
        for phase in ("train", "evaluate"):
            found = row["seconds"].get(phase)
            value, took = (found[0], found[1]) if found else (None, 0.0)
            cells.append(
                f"{value['value']:.1f} ({value['low']:.1f}–{value['high']:.1f}) → {took:.1f} s" if value else "–"
            )
        lines.append("| " + " | ".join(cells) + " |")
        if row["not_predicted"]:
            lines.append(f"\n{row['arm']} was not predicted: {row['not_predicted']}\n")
    lines += ["", "| ÷ full | ratio | 95 % interval | pairs | left out |", "| --- " * 5 + "|"]
    for cost in (cost for row in rows for cost in row["costs"]):
        ratio = cost["ratio"]
        ends = "–" if ratio["low"] is None else f"{ratio['low']:.2f} to {ratio['high']:.2f}"
        name = f"{cost['arm']}, {cost['quantity']}"
        lines.append(f"| {name} | {ratio['value']:.2f} | {ends} | {cost['pairs']} | {cost['disturbed']} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="the folder of DialogSum's splits")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--shape", choices=SHAPES, default="flan-t5-base")
    parser.add_argument("--methods", nargs="+", choices=RATES, default=list(RATES))
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--examples-per-step", type=int, default=32)
    parser.add_argument("--share", type=float, default=0.35, help="of an epoch that each training is timed on")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device here; --device cpu --tiny shows that the program runs")
    with tempfile.TemporaryDirectory() as work:
        folder = RunFolder(Path(work) / "run")
        folder.path.mkdir()
        asked = whole(arguments.shape, arguments.data, arguments.tiny)
        resolved = resolved_for(asked, folder)
        per_step = 8 if arguments.tiny else arguments.examples_per_step
        bench = Bench(resolved, arguments.shape, device, per_step, 1.0 if arguments.tiny else arguments.share)
        found: dict[str, dict[str, list[float]]] = {}
        for number in range(arguments.rounds):
            for method, engine in itertools.product(arguments.methods, ("plain", bench.fast)):
                model, figures = bench.train(method, engine, Path(work) / f"{method}-{engine}-{number}")
                figures["generate"] = bench.generate(model, engine)
                for key, value in figures.items():
                    found.setdefault(f"{method}, {engine}", {}).setdefault(key, []).append(value)
                del model
        flops = model_flops(resolved.model_path, load_tokens(resolved.tokens["train"]))
        compared = compare(asked, per_step, arguments.tiny, Path(work))
    peak = matrix_peak(device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, bf16 products at {peak / 1e12:.1f} TFLOP/s, {arguments.rounds} rounds\n")
    print("| | epoch, s | warm-up, s | of the peak | peak memory | test summaries, s |\n" + "| --- " * 6 + "|")
    for way, figures_of in found.items():
        seen = {key: median(values) for key, values in figures_of.items()}
        share = flops.flops(way.startswith("lora")) / seen["epoch"] / peak
        print(
            f"| {way} | {seen['epoch']:.2f} | {seen['warm_up']:.1f} | {100 * share:.0f} % "
            f"| {seen['peak'] / 2**30:.2f} GiB | {seen['generate']:.2f} |"
        )
    print("\n" + compared_table(compared))
    if arguments.json:
        figures_found = {"device": name, "matrix_peak": peak, "ways": found, "compared": compared}
        arguments.json.write_text(json.dumps(figures_found, indent=2) + "\n")


if __name__ == "__main__":
    main()
