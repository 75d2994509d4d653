"""The recipes that ship with tuneoff: one YAML file each, in this folder."""

from __future__ import annotations

from pathlib import Path


def shipped_recipes() -> dict[str, Path]:
    """Name → file of every recipe that ships."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}


def describe(path: Path) -> str:
    """What a shipped recipe compares: the comment on its first line."""
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("#").strip()
