"""What a run checks on itself: right trainings pass, and each kind of wrong one is caught."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from tests.conftest import dialogue
from tests.train.test_loop import Setup
from tuneoff.errors import CheckFailedError
from tuneoff.model.engines import engine_for
from tuneoff.model.engines.plain import PlainEngine
from tuneoff.model.engines.t5 import T5Engine
from tuneoff.recipe.training import TrainingSpec
from tuneoff.records import Checks
from tuneoff.train.checks import TrialChecks
from tuneoff.train.loop import Training

FP32 = TrainingSpec(precision="fp32", examples_per_step=8, micro_batch=4)


@pytest.fixture(scope="module", params=["seq2seq", "causal"])
def setup(request: pytest.FixtureRequest) -> Setup:
    return Setup(request.param, [dialogue(n) for n in range(40)])


def checked(
    setup: Setup,
    model: Any,
    folder: Path,
    spec: TrainingSpec = FP32,
    *,
    change: Callable[[Training], None] = lambda training: None,
) -> tuple[Checks, float]:
    """Train with all checks; `change` makes a training wrong before they begin."""
    training = setup.training(model, folder, spec)
    change(training)
    checks = TrialChecks(training)

    def before(_: bool) -> None:
        checks.first_step()
        checks.watch()

    training.run(before, lambda _step, _loss, rate: checks.after_update(rate), lambda: False)
    loss = checks.trained_loss()
    checks.note_trained()
    checks.reloaded(loss, engine_for(training.engine.name, model, bf16=training.engine.bf16))
    return checks.record, loss


@pytest.mark.parametrize("method", ["full", "lora", "adalora", "ia3"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_right_training_passes_and_has_the_figures(
    setup: Setup, tmp_path: Path, method: str, precision: Literal["fp32", "bf16"]
) -> None:
    spec = FP32.model_copy(update={"precision": precision})
    model = setup.model(method, dropout=0.1)
    record, _ = checked(setup, model, tmp_path, spec)
    trainable = sum(weight.requires_grad for weight in model.parameters())
    assert record.moved is not None
    assert (record.moved.updates, record.moved.trainable, record.moved.moved) == (2, trainable, trainable)
    assert record.moved.frozen == sum(1 for _ in model.parameters()) - trainable
    assert record.examples == 2 and not record.not_checked
    for agreement in (record.loss, record.gradient_norm, record.split_loss, record.split_gradient_norm):
        assert agreement is not None and agreement.holds and agreement.reference > 0
    assert record.loss is not None and record.loss.difference < (1e-5 if precision == "fp32" else 1e-2)


def test_checks_leave_no_trace(setup: Setup, tmp_path: Path) -> None:
    bare, watched = setup.model(dropout=0.1), setup.model(dropout=0.1)
    setup.train(bare, tmp_path / "a", FP32)
    checks: list[TrialChecks] = []

    def before(training: Training, _: bool) -> None:
        checks.append(TrialChecks(training))
        checks[0].first_step()
        checks[0].watch()

    setup.train(watched, tmp_path / "b", FP32, before=before)
    ours, theirs = watched.state_dict(), bare.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


class Forgetful(PlainEngine):
    """An engine that leaves out the last target of every example, as a batch cut to a wrong width would."""

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        labels = batch["labels"].clone()
        last = (labels >= 0).long().cumsum(1).argmax(1)
        labels[torch.arange(len(labels)), last] = -100
        return super().loss({**batch, "labels": labels})


class Amplified(PlainEngine):
    """An engine whose loss is right and whose gradient is not."""

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        loss = super().loss(batch)
        return 1.02 * loss - 0.02 * loss.detach()


@pytest.mark.parametrize(
    ("engine", "what"), [(Forgetful, "its loss on the first step"), (Amplified, "gradient's norm")]
)
def test_an_engine_that_computes_something_else_is_caught(
    setup: Setup, tmp_path: Path, engine: type[PlainEngine], what: str
) -> None:
    def broken(training: Training) -> None:
        training.engine = engine(training.engine.model, bf16=False)

    with pytest.raises(CheckFailedError, match=what):
        checked(setup, setup.model(), tmp_path, change=broken)


def test_a_model_whose_examples_depend_on_each_other_is_caught(setup: Setup, tmp_path: Path) -> None:
    model = setup.model()
    forward = model.forward

    def mixed(*args: Any, labels: Any = None, **kwargs: Any) -> Any:
        out = forward(*args, **kwargs)
        out.logits = out.logits + 5 * out.logits.mean(0, keepdim=True)  # over the examples of the batch
        if labels is not None:
            shifted = labels if setup.kind == "seq2seq" else torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100)
            out.loss = torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), shifted.flatten())
        return out

    model.forward = mixed

    def plain(training: Training) -> None:
        training.engine = PlainEngine(model, bf16=False)

    with pytest.raises(CheckFailedError, match="two examples one by one have the loss"):
        checked(setup, model, tmp_path, change=plain)


def test_an_adapter_that_never_moves_is_caught(setup: Setup, tmp_path: Path) -> None:
    model = setup.model("lora")
    name, weight = next((n, w) for n, w in model.named_parameters() if "lora_B" in n)
    weight.register_hook(torch.zeros_like)
    spec = FP32.model_copy(update={"epochs": 2.0})
    with pytest.raises(CheckFailedError, match=r"2 of \d+ tensors that are to be trained did not change") as caught:
        checked(setup, model, tmp_path, spec)  # B, and A, whose gradient goes through B
    assert name in str(caught.value)


def test_a_frozen_layer_that_trains_is_caught(setup: Setup, tmp_path: Path) -> None:
    model = setup.model("lora")
    frozen = next(weight for weight in model.parameters() if not weight.requires_grad)

    def shaken(training: Training) -> None:
        training.optimizer.register_step_post_hook(lambda *_: frozen.data.mul_(1.01))

    with pytest.raises(CheckFailedError, match="1 tensors that are to stay frozen changed"):
        checked(setup, model, tmp_path, change=shaken)


def test_what_is_saved_without_a_tensor_is_caught(setup: Setup, tmp_path: Path) -> None:
    model = setup.model("lora")
    training = setup.training(model, tmp_path, FP32, rate=1e-2)
    checks = TrialChecks(training)
    training.run(lambda _: None, lambda *_: None, lambda: False)
    loss = checks.trained_loss()
    checks.note_trained()
    checks.reloaded(loss, training.engine)
    trained = sum(weight.requires_grad for weight in model.parameters())
    assert checks.record.reloaded_tensors == trained
    name, weight = next((n, w) for n, w in model.named_parameters() if "lora_B" in n)
    weight.data.zero_()
    with pytest.raises(CheckFailedError, match=f"1 of {trained} trained tensors are others") as caught:
        checks.reloaded(loss, training.engine)
    assert name in str(caught.value)


def test_a_loss_that_is_another_after_loading_is_caught(setup: Setup, tmp_path: Path) -> None:
    """What a method trains and saves in another shape is not compared tensor by tensor: its loss is."""
    model = setup.model("lora")
    training = setup.training(model, tmp_path, FP32)
    checks = TrialChecks(training)
    checks.note_trained()
    loss = checks.trained_loss()
    with torch.no_grad():  # a buffer, say, that was lost: no trained tensor is another
        next(weight for weight in model.parameters() if not weight.requires_grad).mul_(1.5)
    with pytest.raises(CheckFailedError, match="loaded again, its loss is"):
        checks.reloaded(loss, training.engine)
    assert checks.record.reloaded_loss is not None and not checks.record.reloaded_loss.holds


def test_a_training_too_short_to_tell_says_so(setup: Setup, tmp_path: Path) -> None:
    record, _ = checked(setup, setup.model("lora"), tmp_path, FP32.model_copy(update={"max_steps": 1}))
    assert record.moved is None
    assert record.not_checked == ["which tensors change: the training ended after 1 updates"]


def test_where_memory_is_short_one_example_is_checked(setup: Setup, tmp_path: Path) -> None:
    spec = FP32.model_copy(update={"activation_checkpointing": True, "engine": "plain"})
    record, _ = checked(setup, setup.model(), tmp_path, spec)
    assert record.examples == 1
    assert record.loss is not None and record.split_loss is None
    assert record.not_checked == ["the split: one example of the first step is all that was sure to fit into memory"]


def test_a_long_warm_up_is_waited_for(setup: Setup, tmp_path: Path) -> None:
    """Rates near 0 move no fp32 weight of 1: they are not taken for updates."""
    training = setup.training(setup.model(), tmp_path, FP32)
    checks = TrialChecks(training)
    checks.watch()
    for _ in range(20):
        checks.after_update(2e-8)
    assert checks.watching and checks.record.moved is None


def test_the_t5_engine_is_what_is_checked(tmp_path: Path) -> None:
    setup = Setup("seq2seq", [dialogue(n) for n in range(40)])
    assert isinstance(setup.training(setup.model(), tmp_path, FP32).engine, T5Engine)
