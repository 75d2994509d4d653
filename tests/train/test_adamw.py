"""AdamW on bf16 weights against torch's on fp32 ones."""

from __future__ import annotations

import copy

import pytest
import torch

from tuneoff.train import adamw
from tuneoff.train.adamw import ExactAdamW

SETTINGS = {"lr": 3e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}


def weights() -> list[torch.nn.Parameter]:
    torch.manual_seed(5)
    return [torch.nn.Parameter(torch.randn(70, 33) * 10.0**n) for n in (-3, 0, 2)]


def gradients(step: int) -> list[torch.Tensor]:
    torch.manual_seed(100 + step)
    return [torch.randn(70, 33).to(torch.bfloat16) for _ in range(3)]


@pytest.fixture(params=["native", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        monkeypatch.setattr(adamw, "native", lambda: None)
    elif adamw.native() is None:
        pytest.skip("no C++ compiler")
    return str(request.param)


def test_split_weights_are_exact(way: str) -> None:
    ours, before = weights(), [w.detach().clone() for w in weights()]
    optimizer = ExactAdamW([{"params": ours}], **SETTINGS)
    for weight, value in zip(ours, before, strict=True):
        assert weight.dtype == torch.bfloat16
        assert ((weight.float() - value).abs() <= value.abs() * 2**-8).all()  # the nearest
    optimizer.join()
    assert all(torch.equal(weight, value) for weight, value in zip(ours, before, strict=True))


def test_it_steps_as_torch_does_on_fp32_weights(way: str) -> None:
    ours, theirs = weights(), weights()
    optimizer = ExactAdamW([{"params": ours}], **SETTINGS)
    reference = torch.optim.AdamW(theirs, **SETTINGS)
    for step in range(25):
        for weight, other, gradient in zip(ours, theirs, gradients(step), strict=True):
            weight.grad, other.grad = gradient, gradient.float()
        norm = torch.nn.utils.clip_grad_norm_(theirs, 1.0)
        assert optimizer.gradient_norm() == pytest.approx(float(norm), rel=1e-5)
        optimizer.gradient_scale = 1.0 / (float(norm) + 1e-6)
        optimizer.step()
        reference.step()
    optimizer.join()
    for weight, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(weight, other, rtol=2e-5, atol=1e-6)


def test_saved_and_loaded_it_goes_on_the_same(way: str) -> None:
    def steps(optimizer: ExactAdamW, ours: list[torch.nn.Parameter], numbers: range) -> None:
        for step in numbers:
            for weight, gradient in zip(ours, gradients(step), strict=True):
                weight.grad = gradient
            optimizer.step()

    whole, parts = weights(), weights()
    one = ExactAdamW([{"params": whole}], **SETTINGS)
    steps(one, whole, range(6))
    first = ExactAdamW([{"params": parts}], **SETTINGS)
    steps(first, parts, range(3))
    saved, values = copy.deepcopy(first.state_dict()), [w.detach().clone() for w in parts]
    again = [torch.nn.Parameter(value.float()) for value in values]  # as a checkpoint's bf16 weights are loaded
    second = ExactAdamW([{"params": again}], **SETTINGS)
    second.load_state_dict(saved)
    steps(second, again, range(3, 6))
    one.join()
    second.join()
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
