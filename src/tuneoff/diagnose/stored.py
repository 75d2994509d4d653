"""The weights of a model on a disk, read one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tuneoff.room import room_for


class StoredWeights:
    """The parameters of a model, written to `path` in fp32, each once however often it is tied.

    The model need not be held any longer: a diagnosis has one model in memory, however many it compares. Raises
    WriteError where the disk has no room.
    """

    def __init__(self, path: Path, model: nn.Module) -> None:
        weights = {name: _plain(weight) for name, weight in model.named_parameters()}
        self.count = sum(weight.numel() for weight in weights.values())
        with room_for(path, 4 * self.count):
            save_file(weights, path)
        self._names = list(weights)
        self._file = safe_open(path, "pt")

    def names(self) -> list[str]:
        """In the model's order."""
        return self._names

    def read(self, name: str, device: torch.device | str = "cpu") -> Tensor:
        """The value of one parameter in fp32. Raises KeyError where the model had none of this name."""
        if name not in self._names:
            raise KeyError(name)
        value: Tensor = self._file.get_tensor(name)  # type: ignore[no-untyped-call]
        return value.to(device)


def weight_pairs(
    before: StoredWeights, after: StoredWeights, device: torch.device | str = "cpu"
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, old and new value on `device` of every parameter that both models have in the same shape."""
    known = set(before.names())
    for name in after.names():
        if name in known:
            old, new = before.read(name, device), after.read(name, device)
            if old.shape == new.shape:
                yield name, old, new


def matrices(name: str, *weights: Tensor) -> list[tuple[str, *tuple[Tensor, ...]]]:
    """The matrices of one parameter, each with a name of its own: of experts, (experts, m, n), one each.

    Of several tensors of the same shape the matrices lie beside one another. Empty for what is no matrix.
    """
    if weights[0].dim() == 2:
        return [(name, *weights)]
    if weights[0].dim() == 3:
        return [(f"{name}[{n}]", *(weight[n] for weight in weights)) for n in range(len(weights[0]))]
    return []


def _plain(weight: Tensor) -> Tensor:
    return weight.detach().to("cpu", torch.float32).contiguous()
