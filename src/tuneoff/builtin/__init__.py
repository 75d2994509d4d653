"""What ships inside the package, and what is fetched once: `builtin:NAME` in a recipe, as model or data, is a folder.

What ships is the folder NAME here; what is fetched lies in the user's cache (tuneoff.builtin.packages).
"""

from __future__ import annotations

from pathlib import Path

from tuneoff.builtin.packages import FETCHED, fetched
from tuneoff.errors import TuneoffError, nearest
from tuneoff.progress import ProgressListener

PREFIX = "builtin:"


def located(name: str, tell: ProgressListener | None = None) -> str:
    """The folder of `builtin:NAME`; any other name as it is.

    A model that does not ship is fetched where it is not there yet, which `tell` is told. Raises TuneoffError where
    there is nothing of that name, or where it cannot be fetched.
    """
    if not name.startswith(PREFIX):
        return name
    here, own = Path(__file__).parent, name.removeprefix(PREFIX)
    if own in FETCHED:
        return str(fetched(own, tell))
    ships = [path.name for path in here.iterdir() if path.is_dir() and not path.name.startswith("_")]
    if own not in ships:
        hint = nearest(name, [PREFIX + n for n in (*ships, *FETCHED)])
        raise TuneoffError(f"nothing called {name!r} ships with tuneoff; {hint}")
    return str(here / own)


def gguf_of(name: str) -> str | None:
    """The GGUF file in the folder of `builtin:NAME`; None where that is no GGUF, and for any other name."""
    package = FETCHED.get(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
    return package.file if package is not None else None
