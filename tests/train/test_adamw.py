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


def test_ties_are_rounded_as_the_saved_weights_are() -> None:
    torch.manual_seed(6)
    values = torch.randn(4000).to(torch.bfloat16).float()
    halfway = (values.view(torch.int32) + 0x8000).view(torch.float32)
    mixed = torch.where(torch.rand(4000) < 0.3, halfway, values * 1.001)
    weight = torch.nn.Parameter(mixed.clone())
    optimizer = ExactAdamW([{"params": [weight]}], **SETTINGS)
    assert not torch.equal(weight, mixed.to(torch.bfloat16))
    optimizer.round_ties()
    assert torch.equal(weight, mixed.to(torch.bfloat16))
    optimizer.join()
    assert torch.equal(weight, mixed)


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


def test_gradients_of_several_passes_add_up_in_fp32(way: str) -> None:
    """64 additions in bf16 would lose the small ones; here what is lost is one rounding of each."""
    torch.manual_seed(9)
    weight = torch.nn.Parameter(torch.ones(40, 30))
    optimizer = ExactAdamW([{"params": [weight]}], **SETTINGS, add_up=True)
    parts = torch.randn(64, 40, 30).to(torch.bfloat16)
    for part in parts:
        (weight * part).sum().backward()
        assert weight.grad is None
    exact = parts.float().sum(0)
    gradient = optimizer.gradient(weight)
    assert gradient is not None and gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, exact, rtol=1e-5, atol=1e-5)
    assert optimizer.gradient_norm() == pytest.approx(float(exact.norm()), rel=1e-5)
    before = weight.detach().clone()
    optimizer.step()
    optimizer.zero_grad()
    assert optimizer.gradient(weight) is None and not torch.equal(weight, before)


def test_bf16_and_fp32_weights_are_trained_side_by_side(way: str) -> None:
    """As a method trains fp32 adapters and the norms of a bf16 base: at a rate of 1e-3 a bf16 1.0 alone never moves."""
    base, adapter = torch.nn.Parameter(torch.ones(8, dtype=torch.bfloat16)), torch.nn.Parameter(torch.ones(8))
    reference = [torch.nn.Parameter(torch.ones(8)) for _ in range(2)]
    settings = {**SETTINGS, "lr": 1e-3, "weight_decay": 0.0}
    ours = ExactAdamW([{"params": [base, adapter]}], **settings, hold_in_bf16=False)
    theirs = torch.optim.AdamW(reference, **settings)
    for step in range(500):
        torch.manual_seed(step)
        gradient = torch.randn(8).to(torch.bfloat16).abs()
        base.grad, adapter.grad = gradient.clone(), gradient.float()
        for weight in reference:
            weight.grad = gradient.float()
        ours.step()
        theirs.step()
    assert (base.dtype, adapter.dtype) == (torch.bfloat16, torch.float32)
    ours.join()
    for weight in (base, adapter):
        torch.testing.assert_close(weight.float(), reference[0], rtol=1e-5, atol=1e-6)
