"""What ships inside the package: `builtin:NAME` in a recipe is the folder NAME here."""

from __future__ import annotations

from pathlib import Path

from tuneoff.errors import DataError, nearest


def builtin_folder(name: str) -> Path:
    """The folder of `builtin:NAME`. Raises DataError where nothing of that name ships."""
    here = Path(__file__).parent
    names = [path.name for path in here.iterdir() if path.is_dir() and not path.name.startswith("_")]
    if name not in names:
        raise DataError(f"nothing called {name!r} ships with tuneoff; {nearest(name, names)}")
    return here / name
