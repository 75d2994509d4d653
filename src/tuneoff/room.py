"""Room on a disk: asked for before something large is written, and told in one line where it runs out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuneoff.errors import TuneoffError, WriteError, disk_trouble
from tuneoff.units import bytes_text


@contextmanager
def room_for(path: Path, needed: int, hint: str = "") -> Iterator[None]:
    """The block writes at least `needed` bytes to `path`, a file or folder that may not be there yet.

    Raises WriteError where its disk has less room, before the block is entered, and where the system refuses to write
    meanwhile. The message ends with `hint`.
    """
    if needed > free_bytes(path):
        raise _error(path, "No space left on device", needed, hint)
    try:
        yield
    except Exception as error:
        reason = disk_trouble(error)
        if reason is None or isinstance(error, TuneoffError):
            raise
        place = getattr(error, "filename", None)
        elsewhere = place is not None and not Path(place).is_relative_to(path.parent)
        if elsewhere:
            raise WriteError(f"{place} cannot be written ({reason})") from error
        raise _error(path, reason, needed, hint) from error


def free_bytes(path: Path) -> int:
    """The free bytes of the disk that `path` lies on, or will."""
    path = path.absolute()
    return shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists())).free


def _error(path: Path, reason: str, needed: int, hint: str) -> WriteError:
    return WriteError(
        f"{path} cannot be written ({reason}): it needs at least {bytes_text(needed)}, "
        f"and {bytes_text(free_bytes(path))} are free.{f' {hint}' if hint else ''}"
    )
