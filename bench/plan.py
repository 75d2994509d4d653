"""How near does the plan come? Predicted beside measured, of real runs of random weights on DialogSum.

    python bench/plan.py --data FOLDER [--shapes flan-t5-small …] [--steps 12] [--device cpu] [--json FILE]

Each shape is run in two batch shapes, with full fine-tuning and LoRA of rank 8 and 32: `tuneoff plan --calibrate`, then
`tuneoff run`, whose plan.json and result.json are compared: peak memory of a training step over the start of the
process, and seconds of training. On CUDA, `--device cuda` (run it where one is; else the CPU is used, and said).
FOLDER holds DialogSum's splits as jsonl.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml

from shapes import SHAPES
from tuneoff.folder import RunFolder
from tuneoff.records import Plan, TrialResult

BART = {
    "model_type": "bart", "vocab_size": 32000, "d_model": 768, "encoder_layers": 6, "decoder_layers": 6,
    "encoder_attention_heads": 12, "decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072,
    "max_position_embeddings": 1024,
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "vocab_size": 32000, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 1024,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "flan-t5-small": SHAPES["flan-t5-small"], "flan-t5-base": SHAPES["flan-t5-base"], "bart-base": BART,
    "llama-60m": LLAMA,
}  # fmt: skip
TARGETS = {"t5": ["q", "v"], "bart": ["q_proj", "v_proj"], "llama": ["q_proj", "v_proj"]}
BATCHES = {"8 × 128": (8, 128), "2 × 512": (2, 512)}


def recipe(model: dict[str, Any], data: str, examples: int, length: int, steps: int) -> dict[str, Any]:
    def lora(r: int) -> dict[str, Any]:
        settings = {"r": r, "lora_alpha": 32, "lora_dropout": 0.1, "target_modules": TARGETS[model["model_type"]]}
        return {"method": "lora", "learning_rate": 1e-3, **settings}

    return {
        "model": {"config": model, "tokenizer": {"vocab_size": 16000}},
        "data": {
            "source": data, "input": "dialogue", "target": "summary", "max_source_length": length,
            "limit": {"train": steps * examples, "validation": 1, "test": 1},
        },
        "prompt": "Summarize the following conversation.\n{dialogue}\nSummary:",
        "arms": {"full": {"method": "full", "learning_rate": 5e-5}, "lora-r8": lora(8), "lora-r32": lora(32)},
        "training": {"examples_per_step": examples, "epochs": 1},
        "evaluation": {"max_new_tokens": 2},
    }  # fmt: skip


def measure(shape: str, data: str, examples: int, length: int, steps: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as work:
        path, out = Path(work) / "recipe.yaml", Path(work) / "run"
        path.write_text(yaml.safe_dump(recipe(MODELS[shape], data, examples, length, steps)))
        for command in (["plan", str(path), "--calibrate", "--json"], ["run", str(path), "--out", str(out), "--json"]):
            done = subprocess.run(
                [sys.executable, "-m", "tuneoff", *command], check=False, capture_output=True, text=True
            )
            if done.returncode:
                sys.exit(done.stderr[-3000:])
        plan, rows = Plan.read(RunFolder(out).plan), []
        for arm in plan.arms:
            result = TrialResult.read(RunFolder(out).trial(arm.arm, 0).result)
            assert arm.longest and arm.seconds and result.memory and result.memory.train and result.seconds
            rows.append(
                {
                    "shape": shape,
                    "batch": f"{examples} × {length}",
                    "arm": arm.arm,
                    "predicted_bytes": arm.longest.peak,
                    "measured_bytes": result.memory.train.peak,
                    "tensor_bytes": sum((result.memory.train.components or {}).values()),
                    "predicted_seconds": arm.seconds["train"].model_dump(),
                    "measured_seconds": result.seconds["train"],
                }
            )
        return rows


def off(predicted: float, measured: float) -> float:
    return 100 * (predicted / measured - 1)


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| shape | batch | arm | memory predicted | measured | off | time predicted | measured | off |",
        "| --- " * 9 + "|",
    ]
    memory, seconds = [], []
    for row in rows:
        memory.append(off(row["predicted_bytes"], row["measured_bytes"]))
        seconds.append(off(row["predicted_seconds"]["value"], row["measured_seconds"]))
        lines.append(
            f"| {row['shape']} | {row['batch']} | {row['arm']} | {row['predicted_bytes'] / 2**20:,.0f} MiB "
            f"| {row['measured_bytes'] / 2**20:,.0f} MiB | {memory[-1]:+.1f} % "
            f"| {row['predicted_seconds']['value']:.1f} s | {row['measured_seconds']:.1f} s | {seconds[-1]:+.0f} % |"
        )
    for name, errors in (("memory", memory), ("time", seconds)):
        sizes = [abs(error) for error in errors]
        lines.append(f"\n{name}: median error {median(sizes):.1f} %, largest {max(sizes):.1f} %")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="the folder of DialogSum's splits")
    parser.add_argument("--shapes", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda: there is no CUDA device here")
    if arguments.device == "cpu" and torch.cuda.is_available():
        sys.exit("--device cpu: set CUDA_VISIBLE_DEVICES= to turn the card off")
    rows = []
    for shape in arguments.shapes:
        for name, (examples, length) in BATCHES.items():
            rows += measure(shape, str(Path(arguments.data).resolve()), examples, length, arguments.steps)
            print(f"{shape}, {name}: done", file=sys.stderr, flush=True)
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
