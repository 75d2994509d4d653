"""The device of this process and the precision that it can hold: each chosen once, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tuneoff.errors import ModelError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Precision:
    """The precision in use, and why it is not the one asked for where it is not."""

    name: Literal["bf16", "fp32"]
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        import torch

        return torch.bfloat16 if self.name == "bf16" else torch.float32


def pick_device() -> torch.device:
    """CUDA where there is a card, else Apple's MPS, else the CPU. `CUDA_VISIBLE_DEVICES=` turns a card off."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def pick_precision(asked: Literal["bf16", "fp32"], device: torch.device) -> Precision:
    """`asked`, or fp32 where the hardware has no bf16 arithmetic."""
    import torch

    if asked == "fp32":
        return Precision("fp32", "as the recipe says")
    if device.type == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    else:
        supported = False
    if supported:
        return Precision("bf16", "as the recipe says")
    return Precision("fp32", f"the recipe says bf16, and this {device.type} has no bf16 arithmetic")


def settled_precision(name: Literal["bf16", "fp32"], reason: str, device: torch.device) -> Precision:
    """The precision that a run has settled on. Raises ModelError where this device cannot compute in it."""
    here = pick_precision(name, device)
    if here.name != name:
        raise ModelError(
            f"the run computes in {name}, and this {device.type} has no {name} arithmetic: its figures would not be "
            "comparable. Go on with it on a machine that has, or choose another folder with --out"
        )
    return Precision(name, reason)


def synchronize(device: torch.device) -> None:
    """Wait for work queued on the device, so that a clock read afterwards has counted it."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
