"""The models of several arms, in the memory of one and what the others change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tuneoff.runner.finished import Finished
from tuneoff.use.writer import Writer


class Models:
    """Every arm's model, ready to write; weights that arms have in common are held once.

    The base of all adapters is so in memory once, and nothing is ever written into it. An adapter that its trial merged
    is merged when its arm's turn comes, into copies of the weights that it changes, which go when another arm's comes.

    Raises ModelError where a model or its tokenizer cannot be loaded.
    """

    def __init__(self, arms: Sequence[Finished]) -> None:
        self._arms = {arm.name: arm for arm in arms}
        self._models: dict[str, Any] = {}
        held: dict[str, list[Any]] = {}
        for name, arm in self._arms.items():
            self._models[name] = arm.model()
            _share(self._models[name], held)
        self._current: str | None = None
        self._writer: Writer | None = None
        self.writer(next(iter(self._arms)))  # what is wrong with a tokenizer is told before anything is served

    def writer(self, arm: str) -> Writer:
        """What writes for `arm`, until it is asked for another."""
        if self._writer is None or self._current != arm:
            self._writer = None  # its merged weights go before the next are made
            self._writer, self._current = Writer(self._arms[arm], self._models[arm]), arm
        return self._writer

    @property
    def weights_bytes(self) -> int:
        """Bytes of all models' weights, adapters included, each counted once; a merged adapter's are not in it."""
        storages = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for model in self._models.values()
            for tensor in model.parameters()
        }
        return sum(storages.values())


def _share(model: Any, held: dict[str, list[Any]]) -> None:
    """Put tensors of `held`, kept by their names in the plain model, in the place of equal ones; add the others."""
    import torch

    for module, name, plain in _weights(model):
        own = module._parameters[name]
        known = held.setdefault(plain, [])
        same = next((other for other in known if other.dtype == own.dtype and torch.equal(other, own)), None)
        if same is None:
            known.append(own)
        else:
            module._parameters[name] = same


def _weights(model: Any) -> Iterator[tuple[Any, str, str]]:
    """Each weight's module, its name there and its name in the plain model; peft wraps a layer as `base_layer`."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    for path, module in base.named_modules(remove_duplicate=False):
        for name in module._parameters:
            if module._parameters[name] is not None:
                yield module, name, f"{path}.{name}".replace(".base_layer.", ".")
