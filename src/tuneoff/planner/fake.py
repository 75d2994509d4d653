"""Models and batches without values: every tensor has a shape, a type and a size, and costs no memory."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tuneoff.model.base import build_model, model_class
from tuneoff.model.methods import adapt

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class FakeWorld:
    """Where tensors hold no values. Models and batches made in one lie on its device, and can be used in it alone."""

    def __init__(self, device: torch.device) -> None:
        self._mode, self._device = FakeTensorMode(), device

    def model(
        self, config: PretrainedConfig, method: str, settings: Mapping[str, Any], dtype: torch.dtype, steps: int
    ) -> Any:
        """The model of `config` in `dtype`, adapted to a method, on fake tensors of the device.

        Made on the meta device, since neither transformers nor peft can make one of fake tensors. Raises ModelError.
        """
        with torch.device("meta"):
            own = copy.deepcopy(config)
            model = build_model(own).to(dtype)
            model = adapt(model, method, dict(settings), model_class(config), steps)
        # Training moves its model to the device, which fake parameters do not survive.
        model.to = lambda *_, **__: model
        made: dict[int, torch.Tensor] = {}  # tied weights stay tied
        with self._mode:
            for module in model.modules():
                for held, is_parameter in ((module._parameters, True), (module._buffers, False)):
                    for name, tensor in held.items():
                        if tensor is not None:
                            held[name] = made.setdefault(id(tensor), self._like(tensor, is_parameter))
        return model

    def _like(self, tensor: torch.Tensor, is_parameter: bool) -> torch.Tensor:
        fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=self._device)
        return torch.nn.Parameter(fake, requires_grad=tensor.requires_grad) if is_parameter else fake

    def batch(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A real batch without its values."""
        with self._mode:
            return {name: self._like(tensor, False) for name, tensor in batch.items()}

    def token_ids(self, rows: int, length: int) -> torch.Tensor:
        """Token ids without values: (rows, length)."""
        with self._mode:
            return torch.empty(rows, length, dtype=torch.int64, device=self._device)

    @contextmanager
    def entered(self, rows: Sequence[int]) -> Iterator[None]:
        """Compute without values. `rows` are what only values could tell: how many rows of each mask are real."""
        with self._mode, _Answers(rows):
            yield


class Watching(TorchDispatchMode):
    """A mode that looks on at every operation, as a subclass's `watch` does.

    Two of three calls on fake tensors only ask for their device. These are answered here: they are no operations, and
    to hand each of them down through all modes took most of a plan's time.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled inside, and to say so at every call takes time

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:
            return args[0].fake_device
        return self.watch(func, args, kwargs or {})

    @abstractmethod
    def watch(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The result of an operation."""


class _Answers(Watching):
    """Answers what a program asks of values: how many rows are real, batch after batch, and 0 for a single value."""

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__()
        self._rows = cycle(rows)

    def watch(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if func is torch.ops.aten.nonzero.default:
            return torch.empty(next(self._rows), args[0].dim(), dtype=torch.int64, device=args[0].device)
        if func is torch.ops.aten._local_scalar_dense.default:
            return 0.0 if args[0].dtype.is_floating_point else 0
        if func is torch.ops.aten._unsafe_view.default:
            func = torch.ops.aten.view.default  # the same without values, and torch remembers what it gives
        return func(*args, **kwargs)
