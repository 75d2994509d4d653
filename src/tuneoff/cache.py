"""The user's cache: folders that nobody else can write to. What lies in them can be made again at any time."""

from __future__ import annotations

import getpass
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tuneoff.errors import CacheError


def cache_folder(name: str) -> Path:
    """The folder `NAME` of this user's cache, made where it is not there. Raises CacheError where none can be written.

    It lies in `$XDG_CACHE_HOME/tuneoff`, by default `~/.cache/tuneoff`. Where that cannot be written, is another user's
    or can be written by others, as in a cache that users share, it lies in `tuneoff-USER` beside it; and where that
    cannot be made either, in `tuneoff-USER` in the system's folder for temporary files.
    """
    tried = []
    for root in _roots():
        folder = root / name
        if is_private(root) and is_private(folder):
            return folder
        tried.append(str(root))
    raise CacheError(
        f"there is no folder to keep intermediate results in: {', '.join(tried)} cannot be written, or others can "
        "write there. Set XDG_CACHE_HOME to a folder of your own."
    )


def is_private(path: Path) -> bool:
    """Whether `path` is a folder of this user that this process can write to, and no other user can.

    It is made, with mode 0700, where it is not there.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A link in the user's own cache is the user's choice; with the temporary files it may be anybody's.
        found = path.lstat() if path.parent == Path(tempfile.gettempdir()) else path.stat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and is_own(found) and os.access(path, os.W_OK | os.X_OK)


def is_own(found: os.stat_result) -> bool:
    """Whether a file or folder belongs to this user, and no other user can write to it."""
    if not hasattr(os, "getuid"):  # Windows, where the profile's folder is the user's own
        return True
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def file_sha256(path: Path) -> str:
    """The hash of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _roots() -> Iterator[Path]:
    asked = os.environ.get("XDG_CACHE_HOME")
    try:
        home = Path(asked) if asked else Path.home() / ".cache"
    except RuntimeError:  # there is no home
        home = None
    own = f"tuneoff-{_user()}"
    if home is not None:
        yield from (home / "tuneoff", home / own)
    yield Path(tempfile.gettempdir()) / own


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()
