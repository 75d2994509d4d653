"""Files that may be compressed: opened by the ends of their names."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

from tuneoff.errors import DataError

# What the openers' readers raise for a file that is damaged or cut off.
DAMAGED = (OSError, EOFError, lzma.LZMAError, zipfile.BadZipFile, zlib.error)


def _open_zip(path: Path) -> IO[bytes]:
    return zipfile.ZipFile(path).open(_member(path))


def _open_zst(path: Path) -> IO[bytes]:
    import pyarrow

    return cast("IO[bytes]", pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd"))


OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zip": _open_zip, ".zst": _open_zst,
}  # fmt: skip


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, decompressed where its name ends so. Reading may raise one of `DAMAGED`."""
    opener = OPENERS.get(path.suffix.lower())
    return cast("IO[bytes]", opener(path)) if opener is not None else path.open("rb")


def inner_suffix(path: Path) -> str:
    """The suffix in lower case that says what a file holds: `.csv` of `a.csv`, of `a.csv.gz` and of a zip of `a.csv`.

    Raises DataError for a zip that does not hold exactly one file.
    """
    if path.suffix.lower() == ".zip":
        return Path(_member(path)).suffix.lower()
    return Path(path.stem if path.suffix.lower() in OPENERS else path.name).suffix.lower()


def _member(path: Path) -> str:
    """The name of the one file that a zip holds. Raises DataError."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    except DAMAGED as error:
        raise DataError(f"{path}: cannot read: {getattr(error, 'strerror', None) or error}") from None
    if len(names) != 1:
        raise DataError(f"{path}: a zip must hold one file, and this one holds {len(names)}: unpack it")
    return names[0]
