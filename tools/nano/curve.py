"""The pretraining's losses as a picture: `python tools/nano/curve.py tools/nano/history.jsonl docs/nano-loss.svg`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from chart import line_chart

NAMES = {"loss": "training (mean of 20 steps)", "held_out_loss": "held-out documents"}


def main() -> None:
    history, out = map(Path, sys.argv[1:])
    rows = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    lines = {name: [(row["tokens"] / 1e6, row[kind]) for row in rows if kind in row] for kind, name in NAMES.items()}
    out.write_text(line_chart(lines, "Loss of the pretraining by tokens seen", "million tokens seen", 20), "utf-8")


if __name__ == "__main__":
    main()
