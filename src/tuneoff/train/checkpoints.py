"""Checkpoints that are whole or not used: each is written beside its place, sealed by a manifest, and then renamed.

A checkpoint holds all that training goes on from: the weights that are trained and every buffer, optimizer, schedule,
the method's own state, every random state, and the position. One whose files differ from its manifest is rejected for
the newest that is whole.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tuneoff.cache import file_sha256
from tuneoff.errors import UnreadableFileError
from tuneoff.folder import folder_written_whole
from tuneoff.model.methods import load_method_state, method_state
from tuneoff.records import Record, RunMark
from tuneoff.room import room_for
from tuneoff.train.randomness import random_states, set_random_states

MANIFEST, WEIGHTS, OPTIMIZER, STATE = "manifest.json", "weights.safetensors", "optimizer.pt", "state.pt"
KEPT = 2


class Manifest(Record):
    """The files of a checkpoint with their sha256, the step it stands at, and the seconds of training before it.

    Attributes:
        origin: The run that it is of; None where it was saved by a training outside of one.
    """

    origin: RunMark | None = None
    step: int
    train_seconds: float
    files: dict[str, str]


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True)
class Position:
    """How far training is: steps done, seconds they took, and the losses since the last line of the history."""

    step: int
    train_seconds: float
    window: list[float]


def save(
    folder: Path, position: Position, model: Any, optimizer: Any, scheduler: Any, origin: RunMark | None = None
) -> None:
    """Write `folder/checkpoint-STEP`, and once it is read back whole remove all but the newest two.

    Raises ValueError where it is not what was written, and WriteError where the disk has no room.
    """
    path, weights = folder / f"checkpoint-{position.step}", held(model)
    with room_for(path, sum(tensor.nbytes for tensor in weights.values())), folder_written_whole(path) as new:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, new / WEIGHTS)
        torch.save(optimizer.state_dict(), new / OPTIMIZER)
        state = {
            "scheduler": scheduler.state_dict(),
            "method": method_state(model),
            "random": random_states(),
            "window": list(position.window),
        }
        torch.save(state, new / STATE)
        seal(new, position, origin)
    verified(path)  # before the older ones go
    for old in _by_step(folder)[KEPT:]:
        shutil.rmtree(old)


def load(checkpoint: Checkpoint, model: Any, optimizer: Any, scheduler: Any) -> Position:
    """Put all that the checkpoint holds into a model that was made ready as before, and its optimizer and schedule."""
    saved = load_file(checkpoint.path / WEIGHTS)
    own = held(model)
    if {name: value.dtype for name, value in saved.items()} != {name: value.dtype for name, value in own.items()}:
        raise ValueError(f"{checkpoint.path} is a checkpoint of another model, method or precision")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])
    # By memory map: the file's tensors are read where they are copied to, and never lie in memory twice.
    optimizer.load_state_dict(torch.load(checkpoint.path / OPTIMIZER, map_location="cpu", mmap=True, weights_only=True))
    state = torch.load(checkpoint.path / STATE, map_location="cpu", weights_only=True)
    scheduler.load_state_dict(state["scheduler"])
    load_method_state(model, state["method"])
    set_random_states(state["random"])
    return Position(checkpoint.manifest.step, checkpoint.manifest.train_seconds, state["window"])


def newest_whole(folder: Path, origin: RunMark | None = None) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint by step that is whole, and why each newer one was rejected. Rejected ones are deleted.

    Raises ForeignResultError where it is of another run than `origin`; nothing is deleted then.
    """
    rejected: dict[Path, str] = {}
    found = None
    for path in _by_step(folder):
        try:
            found = Checkpoint(path, verified(path))
            break
        except UnreadableFileError:
            raise
        except ValueError as error:
            rejected[path] = f"{path.name}: {error}"
    if found is not None and origin is not None:
        origin.require_own(found.manifest.origin, found.path)
    for path in rejected:
        shutil.rmtree(path)
    return found, list(rejected.values())


def held(model: Any) -> dict[str, torch.Tensor]:
    """What training may change: each trained parameter once, and every buffer."""
    trained = {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}
    buffers = {name: buffer for name, buffer in model.named_buffers() if buffer.untyped_storage().nbytes()}
    return {**trained, **buffers}


def seal(path: Path, position: Position, origin: RunMark | None) -> None:
    """Write the manifest of the files in `path`."""
    paths = sorted(file for file in path.rglob("*") if file.is_file())
    files = {str(file.relative_to(path)): file_sha256(file) for file in paths}
    manifest = Manifest(origin=origin, step=position.step, train_seconds=position.train_seconds, files=files)
    manifest.write(path / MANIFEST)


def verified(path: Path) -> Manifest:
    """The manifest of a whole checkpoint. Raises ValueError that says what is wrong with it."""
    if not (path / MANIFEST).is_file():
        raise ValueError("has no manifest: its writing was cut short")
    try:
        manifest = Manifest.read(path / MANIFEST)
    except UnreadableFileError:
        raise
    except ValueError:
        raise ValueError("its manifest is damaged") from None
    for name, digest in manifest.files.items():
        file = path / name
        if not file.is_file():
            raise ValueError(f"{name} is missing")
        if file_sha256(file) != digest:
            raise ValueError(f"{name} differs from what was written")
    return manifest


def _by_step(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the one with the most steps first."""
    return sorted(folder.glob("checkpoint-*"), key=_step, reverse=True)


def _step(path: Path) -> int:
    suffix = path.name.rpartition("-")[2]
    return int(suffix) if suffix.isdigit() else -1
