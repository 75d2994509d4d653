"""The pretraining's losses as a picture: `python tools/nano/curve.py tools/nano/history.jsonl docs/nano-loss.svg`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 760, 380, 56, 40, 48
COLOURS = {"loss": "#9aa5b1", "held_out_loss": "#c2410c"}
NAMES = {"loss": "training (mean of 20 steps)", "held_out_loss": "held-out documents"}

Points = list[tuple[float, float]]


def curves(history: list[dict[str, float]], highest: float) -> dict[str, Points]:
    """(million tokens, loss) by kind; what lies above `highest` is left out."""
    found = {
        kind: [(row["tokens"] / 1e6, row[kind]) for row in history if row.get(kind, highest) < highest]
        for kind in COLOURS
    }
    return {kind: points for kind, points in found.items() if points}


def picture(lines: dict[str, Points], highest: float) -> str:
    right = max(x for points in lines.values() for x, _ in points)

    def place(x: float, y: float) -> str:
        across = LEFT + x / right * (WIDTH - LEFT - 16)
        return f"{across:.1f},{TOP + (1 - y / highest) * (HEIGHT - TOP - BOTTOM):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif" '
        'font-size="13">',
        "<title>Loss of the pretraining by tokens seen</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for y in range(int(highest) + 1):
        start, end = place(0, y), place(right, y)
        parts.append(f'<path d="M{start} L{end}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{float(start.split(",")[1]) + 4}" text-anchor="end">{y}</text>')
    for x in range(0, int(right) + 1, 5):
        across = place(x, 0).split(",")[0]
        parts.append(f'<text x="{across}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x}</text>')
    parts.append(f'<text x="{WIDTH // 2}" y="{HEIGHT - 10}" text-anchor="middle">million tokens seen</text>')
    for number, (kind, points) in enumerate(lines.items()):
        path = " L".join(place(x, y) for x, y in points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{COLOURS[kind]}" stroke-width="2"/>')
        parts.append(f'<text x="{LEFT + 8 + number * 220}" y="24" fill="{COLOURS[kind]}">{NAMES[kind]}</text>')
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    history, out = map(Path, sys.argv[1:])
    rows = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    out.write_text(picture(curves(rows, 9.0), 9.0), encoding="utf-8")


if __name__ == "__main__":
    main()
