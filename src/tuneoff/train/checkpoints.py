"""Checkpoints that are whole or not used: each is sealed by a manifest, and verified before it is resumed from.

transformers writes a checkpoint in place, and resumes without a word from one that lacks its
optimizer state or holds a flipped bit. Here the manifest comes last: a checkpoint without one was
never finished, and one whose files differ from it is rejected for the newest that is whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tuneoff.folder import sync_folder
from tuneoff.records import Record

MANIFEST = "manifest.json"


class Manifest(Record):
    """The files of a checkpoint by name, the step it stands at, and the seconds of training that led there."""

    step: int
    train_seconds: float
    files: dict[str, str]


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint."""

    path: Path
    manifest: Manifest


def seal(path: Path, step: int, train_seconds: float) -> None:
    """Make every file of the checkpoint durable, then write its manifest."""
    files = {}
    for file in _files(path):
        files[str(file.relative_to(path))] = _sha256(file)
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    sync_folder(path)
    Manifest(step=step, train_seconds=train_seconds, files=files).write(path / MANIFEST)
    sync_folder(path.parent)


def newest_whole(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, and why each newer one was rejected. Rejected ones are deleted."""
    rejected: list[str] = []
    steps = sorted(folder.glob("checkpoint-*"), key=_step, reverse=True)
    for path in steps:
        try:
            return Checkpoint(path, _verified(path)), rejected
        except ValueError as error:
            rejected.append(f"{path.name}: {error}")
            shutil.rmtree(path)
    return None, rejected


def _verified(path: Path) -> Manifest:
    """The manifest of a whole checkpoint. Raises ValueError that says what is wrong with it."""
    try:
        manifest = Manifest.read(path / MANIFEST)
    except OSError:
        raise ValueError("has no manifest: its writing was cut short") from None
    except ValueError:
        raise ValueError("its manifest is damaged") from None
    for name, digest in manifest.files.items():
        file = path / name
        if not file.is_file():
            raise ValueError(f"{name} is missing")
        if _sha256(file) != digest:
            raise ValueError(f"{name} differs from what was written")
    return manifest


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name != MANIFEST)


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _step(path: Path) -> int:
    suffix = path.name.rpartition("-")[2]
    return int(suffix) if suffix.isdigit() else -1
