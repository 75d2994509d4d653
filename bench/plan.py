"""How near does the plan come? Predicted beside measured, of real runs of random weights on DialogSum.

    python bench/plan.py --data FOLDER [--shapes flan-t5-small …] [--steps 4] [--json FILE]
    python bench/plan.py --data FOLDER --fit          # the constants of tuneoff.planner, from other shapes
    python bench/plan.py --data FOLDER --times        # seconds of training, too: after `tuneoff plan --calibrate`

Each shape is run in three batch shapes (one of them split into micro-batches) as it is, with full fine-tuning and with
LoRA of rank 8 and 32, validation on. Judged is what
plan.json says that a process of the arm holds at most, by the largest resident size that the system has counted of
either process of the trial. The models and batches of `--fit` are others than those that are judged. FOLDER
holds DialogSum's splits as jsonl.
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

import numpy as np
import torch
import yaml

from shapes import SHAPES
from tuneoff.folder import RunFolder
from tuneoff.planner.process import OWN_BYTES, PROCESS_BYTES, SLACK
from tuneoff.records import PhaseMemory, Plan, TrialResult

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
    "flan-t5-small": SHAPES["flan-t5-small"], "bart-base": BART, "llama-60m": LLAMA,
    "flan-t5-base": SHAPES["flan-t5-base"],
}  # fmt: skip
FITTED: dict[str, dict[str, Any]] = {  # smaller, and of other widths
    "t5-fit": {**SHAPES["flan-t5-small"], "d_model": 384, "d_ff": 768, "num_layers": 4},
    "bart-fit": {**BART, "d_model": 512, "encoder_ffn_dim": 1536, "decoder_ffn_dim": 1536, "encoder_layers": 3,
                 "decoder_layers": 3, "encoder_attention_heads": 8, "decoder_attention_heads": 8, "vocab_size": 16000},
    "llama-fit": {**LLAMA, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6,
                  "num_attention_heads": 6, "num_key_value_heads": 6, "vocab_size": 16000},
}  # fmt: skip
TARGETS = {"t5": ["q", "v"], "bart": ["q_proj", "v_proj"], "llama": ["q_proj", "v_proj"]}
# Examples a step, tokens of an input at most, examples at once (None: all).
BATCHES = {
    "8 × 128": (8, 128, None), "2 × 512": (2, 512, None), "8 × 128 by 2": (8, 128, 2), "4 × 256": (4, 256, None),
}  # fmt: skip
JUDGED, FITTING = ("8 × 128", "2 × 512", "8 × 128 by 2"), ("4 × 256",)


def recipe(
    model: dict[str, Any], data: str, examples: int, length: int, micro: int | None, steps: int
) -> dict[str, Any]:
    def lora(r: int) -> dict[str, Any]:
        settings = {"r": r, "lora_alpha": 32, "lora_dropout": 0.1, "target_modules": TARGETS[model["model_type"]]}
        return {"method": "lora", "learning_rate": 1e-3, **settings}

    return {
        "model": {"config": model, "tokenizer": {"vocab_size": 16000}},
        "data": {
            "source": data, "input": "dialogue", "target": "summary", "max_source_length": length,
            "limit": {"train": steps * examples, "validation": 16, "test": 8},
        },
        "prompt": "Summarize the following conversation.\n{dialogue}\nSummary:",
        "arms": {
            "original": {"method": "none"}, "full": {"method": "full", "learning_rate": 5e-5},
            "lora-r8": lora(8), "lora-r32": lora(32),
        },
        "training": {"examples_per_step": examples, "epochs": 1, **({"micro_batch": micro} if micro else {})},
        "evaluation": {"max_new_tokens": 8, "batch_size": 8},
    }  # fmt: skip


def measure(shape: str, data: str, batch: str, steps: int, times: bool) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as work:
        path, out = Path(work) / "recipe.yaml", Path(work) / "run"
        config, (examples, length, micro) = {**MODELS, **FITTED}[shape], BATCHES[batch]
        path.write_text(yaml.safe_dump(recipe(config, data, examples, length, micro, steps)))
        if times:
            call(["plan", str(path), "--calibrate", "--json"])
        call(["run", str(path), "--out", str(out), "--json"])
        plan, rows = Plan.read(RunFolder(out).plan), []
        for arm in plan.arms:
            result = TrialResult.read(RunFolder(out).trial(arm.arm, 0).result)
            assert arm.seconds and arm.process_peak and result.seconds
            assert result.memory and result.memory.process_peak
            rows.append(
                {
                    "shape": shape,
                    "batch": batch,
                    "arm": arm.arm,
                    "validate_bytes": arm.validate_peak,
                    "predicted_bytes": arm.process_peak,
                    "slack_bytes": arm.slack,
                    "measured_bytes": result.memory.process_peak,
                    "predicted_step_bytes": arm.longest.peak if arm.longest else None,
                    "measured_step_bytes": result.memory.train.peak if result.memory.train else None,
                    "held_by_phase": {
                        phase: part.process_peak for phase, part in result.memory if isinstance(part, PhaseMemory)
                    },
                    "predicted_seconds": arm.seconds["train"].model_dump() if arm.longest else None,
                    "measured_seconds": result.seconds["train"],
                }
            )
        return rows


def call(arguments: list[str]) -> None:
    """Run tuneoff."""
    done = subprocess.run([sys.executable, "-m", "tuneoff", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])


def off(predicted: float, measured: float) -> float:
    return 100 * (predicted / measured - 1)


def fit(rows: list[dict[str, Any]]) -> str:
    """The constants with which the predictions of `rows` would be nearest, by least squares of relative errors.

    Which phase holds most depends on them, so that it is fitted again until they stand still.
    """
    kept = np.array([row["slack_bytes"] / SLACK for row in rows])
    measured = np.array([row["measured_bytes"] for row in rows])
    rest = measured - np.array([row["predicted_bytes"] - row["slack_bytes"] - OWN_BYTES for row in rows])
    matrix = np.stack([kept, np.ones(len(rows))], axis=1)
    (slack, own), *_ = np.linalg.lstsq(matrix / measured[:, None], rest / measured, rcond=None)
    left = (rest - matrix @ (slack, own)) / measured
    steps = [row["measured_step_bytes"] - row["predicted_step_bytes"] for row in rows if row["predicted_step_bytes"]]
    step = median(steps) + PROCESS_BYTES
    own -= step - PROCESS_BYTES  # which are in every prediction, too
    return (
        f"SLACK = {slack:.2f}, OWN_BYTES = {own / 2**20:.0f} MiB, PROCESS_BYTES = {step / 2**20:.0f} MiB, from "
        f"{len(rows)} arms of {', '.join(FITTED)}: what is left is at most {100 * abs(left).max():.1f} %"
    )


def table(rows: list[dict[str, Any]], times: bool) -> str:
    """Markdown: the process's peak, that of a step over the process's start, and where asked for seconds."""
    pairs = [("process", "predicted_bytes", "measured_bytes"), ("step", "predicted_step_bytes", "measured_step_bytes")]
    lines = ["| shape | batch | arm |" + "".join(f" {name} predicted | measured | off |" for name, *_ in pairs)]
    lines[0] += " time predicted | measured | off |" if times else ""
    lines.append("| --- " * (9 + 3 * times) + "|")
    errors: dict[str, list[float]] = {}
    for row in rows:
        line = f"| {row['shape']} | {row['batch']} | {row['arm']} |"
        for name, predicted, measured in pairs:
            if row[predicted] is None:
                line += " – | – | – |"
                continue
            error = off(row[predicted], row[measured])
            errors.setdefault(name, []).append(abs(error))
            line += f" {row[predicted] / 2**20:,.0f} MiB | {row[measured] / 2**20:,.0f} MiB | {error:+.1f} % |"
        if times and row["predicted_seconds"]:
            error = off(row["predicted_seconds"]["value"], row["measured_seconds"])
            errors.setdefault("time", []).append(abs(error))
            line += f" {row['predicted_seconds']['value']:.1f} s | {row['measured_seconds']:.1f} s | {error:+.0f} % |"
        lines.append(line)
    for name, sizes in errors.items():
        lines.append(f"\n{name}: median error {median(sizes):.1f} %, largest {max(sizes):.1f} %")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="the folder of DialogSum's splits")
    parser.add_argument("--shapes", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--fit", action="store_true", help="print the constants that other shapes give")
    parser.add_argument("--times", action="store_true", help="calibrate first, and compare seconds, too")
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()
    if torch.cuda.is_available():
        sys.exit("this measures a CPU: set CUDA_VISIBLE_DEVICES= to turn the GPU off")
    rows = []
    for shape in FITTED if arguments.fit else arguments.shapes:
        for batch in FITTING if arguments.fit else JUDGED:
            rows += measure(shape, str(Path(arguments.data).resolve()), batch, arguments.steps, arguments.times)
            print(f"{shape}, {batch}: done", file=sys.stderr, flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    print(fit(rows) if arguments.fit else table(rows, arguments.times))


if __name__ == "__main__":
    main()
