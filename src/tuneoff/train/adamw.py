"""AdamW that holds bf16 weights exactly, and adds up the gradients of micro-batches in fp32."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tuneoff.model.kernels.native import call, native

HALF = 0x8000  # half of the lowest bit of a bf16 value, in the bits of an fp32 one


class ExactAdamW(Optimizer):
    """AdamW (Loshchilov and Hutter 2019, algorithm 2) that updates bf16 weights as if they were fp32.

    For each bf16 weight it keeps, in `rests`, what the weight lacks to its fp32 value as 16 bits: the bits of the fp32
    value are (bf16 << 16) + rest, where the bf16 value is the nearest one (ties upwards) and the rest is signed. fp32
    weights are updated as they are. A step multiplies gradients by `gradient_scale`, so that clipping needs no pass of
    its own.

    Args:
        groups: torch's parameter groups.
        lr: The learning rate; `betas`, `eps` and `weight_decay` are torch's, too.
        hold_in_bf16: Turn fp32 weights into bf16 ones with their rests.
        add_up: Whether a step has several backward passes, whose bf16 gradients are then added up in fp32 (`sums`).
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        hold_in_bf16: bool = True,
        add_up: bool = False,
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.gradient_scale = 1.0
        self.rests: dict[Tensor, Tensor] = {}
        self.sums: dict[Tensor, Tensor] = {}
        self._added: set[Tensor] = set()  # weights whose sum holds a gradient of this step
        for weight in self._weights():
            if weight.dtype == torch.bfloat16:
                self.rests[weight] = torch.zeros_like(weight, dtype=torch.int16)
            elif hold_in_bf16:
                weight.data, self.rests[weight] = _split(weight.data)
            if add_up and weight in self.rests:
                self.sums[weight] = torch.zeros_like(weight, dtype=torch.float32)
                weight.register_post_accumulate_grad_hook(self._add)

    def join(self) -> None:
        """Give the weights their fp32 values. Nothing can be trained afterwards."""
        for weight, rest in self.rests.items():
            weight.grad = None
            weight.data = _joined(weight.data, rest)
        self.rests = {}

    def rest_of(self, weight: Tensor) -> Tensor | None:
        """What a weight of the model, or a tensor that shares its values, lacks to its fp32 value; None if nothing."""
        return next((rest for own, rest in self.rests.items() if own.data_ptr() == weight.data_ptr()), None)

    @torch.no_grad()
    def round_ties(self) -> None:
        """Round the weights whose fp32 value lies halfway between two bf16 numbers to the even one, at the end.

        A step rounds them upwards, so that what they lack fits 16 bits. What is saved in fp32 and loaded in bf16 is
        rounded to even: the trained model then has the very weights of the reloaded one. No step may follow.
        """
        for weight, rest in self.rests.items():
            bits = weight.data.view(torch.int16)
            tied = (rest == -HALF) & (bits & 1 == 1)
            if tied.any():
                bits.sub_(tied.to(torch.int16))
                self.rests[weight] = rest.to(torch.int32).masked_fill_(tied, HALF)

    @torch.no_grad()
    def gradient_norm(self) -> float:
        """The L2 norm of all gradients of this step."""
        gradients = [gradient for weight in self._weights() if (gradient := self.gradient(weight)) is not None]
        if native() is None or any(gradient.device.type != "cpu" for gradient in gradients):
            return math.sqrt(sum(float(torch.linalg.vector_norm(g, dtype=torch.float32)) ** 2 for g in gradients))
        return math.sqrt(sum(call("squared_norm", g, g.numel(), g.contiguous()) for g in gradients))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                gradient = self.gradient(weight)
                if gradient is not None:
                    self._update(group, weight, gradient)

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        self._added.clear()

    def gradient(self, weight: Tensor) -> Tensor | None:
        """The gradient of a weight in this step: fp32 where those of several backward passes are added up."""
        return self.sums[weight] if weight in self._added else weight.grad

    def clear_gradient(self, weight: Tensor) -> Tensor:
        """A gradient of zeros for a weight that no backward pass of this step has reached; returns it."""
        if weight not in self.sums:
            weight.grad = torch.zeros_like(weight)
            return weight.grad
        self._added.add(weight)
        return self.sums[weight].zero_()

    def _add(self, weight: Tensor) -> None:
        """Move a gradient that a backward pass has just finished into the weight's sum."""
        if weight.grad is None:
            return
        if weight in self._added:
            self.sums[weight].add_(weight.grad)
        else:
            self.sums[weight].copy_(weight.grad)
            self._added.add(weight)
        weight.grad = None

    def _update(self, group: dict[str, Any], weight: Tensor, gradient: Tensor) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(weight, dtype=torch.float32)
            state["exp_avg_sq"] = torch.zeros_like(weight, dtype=torch.float32)
        state["step"] += 1
        first, second = state["exp_avg"], state["exp_avg_sq"]
        beta1, beta2 = group["betas"]
        shrink = 1 - group["lr"] * group["weight_decay"]
        size = group["lr"] / (1 - beta1 ** state["step"])
        root = 1 / math.sqrt(1 - beta2 ** state["step"])
        rest = self.rests.get(weight)
        if rest is not None and weight.device.type == "cpu" and native() is not None:
            gradient = gradient.contiguous()
            scales = (self.gradient_scale, beta1, beta2, group["eps"], shrink, size, root)
            call("adamw", gradient, weight.numel(), weight, rest, gradient, first, second, *scales)
            return
        gradient = gradient.float() * self.gradient_scale
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        master = weight if rest is None else _joined(weight, rest)
        master.mul_(shrink).addcdiv_(first, (second.sqrt() * root).add_(group["eps"]), value=-size)
        if rest is not None:
            nearest, left = _split(master)
            weight.copy_(nearest)
            rest.copy_(left)

    def _weights(self) -> list[Tensor]:
        return [weight for group in self.param_groups for weight in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "rests": [self.rests.get(weight) for weight in self._weights()]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Moments are placed here: torch would turn them into the weights' own dtype.
        super().load_state_dict({"state": {}, "param_groups": state_dict["param_groups"]})
        weights = self._weights()
        for weight, saved in zip(weights, state_dict["rests"], strict=True):
            if saved is not None:
                self.rests[weight].copy_(saved)
        for n, saved in state_dict["state"].items():
            self.state[weights[n]] = {
                key: value.to(weights[n].device, copy=True) if torch.is_tensor(value) else value
                for key, value in saved.items()
            }


def _split(value: Tensor) -> tuple[Tensor, Tensor]:
    bits = value.contiguous().view(torch.int32)
    return ((bits + HALF) >> 16).to(torch.int16).view(torch.bfloat16), bits.to(torch.int16)


def _joined(nearest: Tensor, rest: Tensor) -> Tensor:
    return ((nearest.contiguous().view(torch.int16).to(torch.int32) << 16) + rest.to(torch.int32)).view(torch.float32)
