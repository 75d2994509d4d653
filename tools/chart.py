"""A line chart as SVG, for the pictures in docs/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 760, 380, 56, 40, 48
COLOURS = ("#9aa5b1", "#c2410c", "#0f766e", "#7c3aed")

Points = Sequence[tuple[float, float]]


def line_chart(lines: Mapping[str, Points], title: str, across: str, every: float) -> str:
    """Curves from 0 to their largest values, a legend above, a mark `every` so much along the axis `across`."""
    right = max(x for points in lines.values() for x, _ in points)
    highest = max(y for points in lines.values() for _, y in points)

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + x / right * (WIDTH - LEFT - 16), TOP + (1 - y / highest) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif" '
        'font-size="13">',
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for y in range(int(highest) + 1):
        at = place(0, y)[1]
        parts.append(f'<path d="M{LEFT},{at:.1f} L{WIDTH - 16},{at:.1f}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{y}</text>')
    for n in range(int(right / every) + 1):
        at = place(n * every, 0)[0]
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{n * every:g}</text>')
    parts.append(f'<text x="{WIDTH // 2}" y="{HEIGHT - 10}" text-anchor="middle">{across}</text>')
    for number, (name, points) in enumerate(lines.items()):
        path = " L".join(f"{a:.1f},{b:.1f}" for a, b in (place(x, y) for x, y in points))
        parts.append(f'<path d="M{path}" fill="none" stroke="{COLOURS[number]}" stroke-width="2"/>')
        parts.append(f'<text x="{LEFT + 8 + number * 225}" y="24" fill="{COLOURS[number]}">{name}</text>')
    return "\n".join([*parts, "</svg>\n"])
