"""What ships inside the package: `builtin:NAME` in a recipe, as model or data, is the folder NAME here."""

from __future__ import annotations

from pathlib import Path

from tuneoff.errors import TuneoffError, nearest

PREFIX = "builtin:"


def located(name: str) -> str:
    """The folder of `builtin:NAME`; any other name as it is. Raises TuneoffError where nothing of that name ships."""
    if not name.startswith(PREFIX):
        return name
    here = Path(__file__).parent
    names = [path.name for path in here.iterdir() if path.is_dir() and not path.name.startswith("_")]
    if name.removeprefix(PREFIX) not in names:
        raise TuneoffError(f"nothing called {name!r} ships with tuneoff; {nearest(name, [PREFIX + n for n in names])}")
    return str(here / name.removeprefix(PREFIX))
