"""The weights with the lowest validation loss, kept on the disk while training goes on, and given back at its end."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tuneoff.errors import DamagedFileError
from tuneoff.folder import folder_written_whole
from tuneoff.model.methods import load_method_state, method_state
from tuneoff.records import RunMark
from tuneoff.room import room_for
from tuneoff.train.adamw import ExactAdamW
from tuneoff.train.checkpoints import WEIGHTS, Position, held, seal, verified

PREFIX, REST, METHOD = "best-", "rest/", "method.pt"


@dataclass(frozen=True)
class Validation:
    """The loss on the validation split after `step` optimizer steps, in nats a target token.

    `train_seconds` are those of training up to there.
    """

    step: int
    loss: float
    train_seconds: float


def best_of(validations: Sequence[Validation]) -> Validation:
    """The one with the lowest loss, the first of several. A loss that is not a number is above all others."""
    return min(validations, key=lambda one: (math.isnan(one.loss), one.loss))


def since_best(validations: Sequence[Validation]) -> int:
    """How many validations came after the best one."""
    return len(validations) - 1 - list(validations).index(best_of(validations))


class BestWeights:
    """What training had when its validation loss was lowest: `folder/best-STEP`, sealed as a checkpoint is.

    Which step is the best is decided by the history alone, so that a training that was interrupted, and does some steps
    again, keeps the same.
    """

    def __init__(self, folder: Path, origin: RunMark | None) -> None:
        self._folder, self._origin = folder, origin

    def keep(self, step: int, model: Any, optimizer: torch.optim.Optimizer) -> None:
        """Write the weights as the optimizer holds them, with all buffers; then remove those of other steps.

        Raises WriteError where the disk has no room.
        """
        path = self._folder / f"{PREFIX}{step}"
        weights = _exact(model, optimizer)
        with room_for(path, sum(tensor.nbytes for tensor in weights.values())), folder_written_whole(path) as new:
            save_file({name: tensor.contiguous() for name, tensor in weights.items()}, new / WEIGHTS)
            torch.save(method_state(model), new / METHOD)
            seal(new, Position(step, 0.0, []), self._origin)
        verified(path)
        for other in self._folder.glob(f"{PREFIX}*"):
            if other != path:
                shutil.rmtree(other)

    def lacks(self, validations: Sequence[Validation], due: Sequence[int], step: int) -> str | None:
        """Why a training that goes on after `step` would not have its best weights at the end; None where it would.

        Until then validations were `due` after these steps: without the loss of one of them nobody knows which is the
        best. The weights of a later step do as well: the training comes to that step again, and they are better.
        """
        done = [one for one in validations if one.step <= step]
        lost = set(due) - {one.step for one in done}
        if lost:
            return f"the validation loss after step {min(lost)} is not in the history"
        if not done:
            return None
        needed = best_of(done).step
        found = [path for path in self._folder.glob(f"{PREFIX}*") if _step(path) == needed or _step(path) > step]
        return None if any(map(_is_whole, found)) else f"the weights of the best step until then, {needed}, are lost"

    def restore(self, step: int, model: Any, optimizer: torch.optim.Optimizer) -> None:
        """Give the model and its optimizer the weights of `step`, to the bit. No step may follow.

        Raises DamagedFileError where they are not there, or not what was written.
        """
        path = self._folder / f"{PREFIX}{step}"
        try:
            verified(path)
        except ValueError as error:
            raise DamagedFileError(f"{path} {error}: the weights of the best step are lost") from None
        saved = load_file(path / WEIGHTS)
        with torch.no_grad():
            for name, tensor in _exact(model, optimizer).items():
                tensor.copy_(saved[name])
        load_method_state(model, torch.load(path / METHOD, map_location="cpu", weights_only=True))


def _step(path: Path) -> int:
    return int(path.name.removeprefix(PREFIX))


def _is_whole(path: Path) -> bool:
    try:
        verified(path)
    except ValueError:
        return False
    return True


def _exact(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What training changes, and under REST what the optimizer holds of it besides: nothing is copied."""
    own = held(model)
    if not isinstance(optimizer, ExactAdamW):
        return own
    rests = {name: optimizer.rest_of(tensor) for name, tensor in own.items()}
    return {**own, **{f"{REST}{name}": rest for name, rest in rests.items() if rest is not None}}
