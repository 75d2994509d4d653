"""AdamW on bf16 weights that have exact fp32 masters, in one pass over each weight."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.optim import Optimizer

from tuneoff.model.fast.native import call, native

HALF = 0x8000  # of the bits below bf16's


class ExactAdamW(Optimizer):
    """AdamW (Loshchilov and Hutter 2019, algorithm 2) as on fp32 weights, with weights and gradients in bf16.

    It turns the fp32 weights that it is given into bf16, and keeps what each lacks to its fp32 value as 16 bits in
    `rests`: an fp32 value's bits are (bf16 << 16) + rest, with the bf16 the nearest one (ties upwards) and the rest
    signed. A step multiplies gradients by `gradient_scale`, so that clipping costs no pass of its own.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.gradient_scale = 1.0
        self.rests: list[Tensor] = []
        for weight in self._weights():
            weight.data, rest = _split(weight.data)
            self.rests.append(rest)

    def join(self) -> None:
        """Give the weights their fp32 values back; nothing can be trained afterwards."""
        for weight, rest in zip(self._weights(), self.rests, strict=True):
            weight.data = _joined(weight.data, rest)
        self.rests = []

    @torch.no_grad()
    def gradient_norm(self) -> float:
        """The L2 norm of all gradients."""
        gradients = [weight.grad for weight in self._weights() if weight.grad is not None]
        if native() is None or gradients[0].device.type != "cpu":
            return float(sum(torch.linalg.vector_norm(g, dtype=torch.float32) ** 2 for g in gradients)) ** 0.5
        return math.sqrt(sum(call("squared_norm", g, g.numel(), g.contiguous()) for g in gradients))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        rests = iter(self.rests)
        for group in self.param_groups:
            for weight in group["params"]:
                rest = next(rests)
                if weight.grad is not None:
                    self._update(group, weight, rest)

    def _update(self, group: dict[str, Any], weight: Tensor, rest: Tensor) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(weight, dtype=torch.float32)
            state["exp_avg_sq"] = torch.zeros_like(weight, dtype=torch.float32)
        state["step"] += 1
        first, second, gradient = state["exp_avg"], state["exp_avg_sq"], weight.grad
        beta1, beta2 = group["betas"]
        shrink = 1 - group["lr"] * group["weight_decay"]
        size = group["lr"] / (1 - beta1 ** state["step"])
        root = 1 / math.sqrt(1 - beta2 ** state["step"])
        library = native()
        if library is not None and weight.device.type == "cpu":
            if isinstance(weight, FakeTensor):  # no values, and no memory beyond what is there
                return
            library.adamw(
                torch.get_num_threads(),
                weight.numel(),
                *(t.data_ptr() for t in (weight, rest, gradient.contiguous(), first, second)),
                self.gradient_scale, beta1, beta2, group["eps"], shrink, size, root,
            )  # fmt: skip
            return
        gradient = gradient.float() * self.gradient_scale
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        master = (
            _joined(weight, rest).mul_(shrink).addcdiv_(first, (second.sqrt() * root).add_(group["eps"]), value=-size)
        )
        nearest, left = _split(master)
        weight.copy_(nearest)
        rest.copy_(left)

    def _weights(self) -> list[Tensor]:
        return [weight for group in self.param_groups for weight in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "rests": self.rests}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "rests"})
        weights = self._weights()
        for rest, saved in zip(self.rests, state_dict["rests"], strict=True):
            rest.copy_(saved)
        for n, saved in state_dict["state"].items():  # torch turns moments into the weights' own type
            self.state[weights[n]] = {
                key: value.to(weights[n].device, copy=True) if torch.is_tensor(value) else value
                for key, value in saved.items()
            }


def _split(value: Tensor) -> tuple[Tensor, Tensor]:
    bits = value.contiguous().view(torch.int32)
    return ((bits + HALF) >> 16).to(torch.int16).view(torch.bfloat16), bits.to(torch.int16)


def _joined(nearest: Tensor, rest: Tensor) -> Tensor:
    return ((nearest.contiguous().view(torch.int16).to(torch.int32) << 16) + rest.to(torch.int32)).view(torch.float32)
