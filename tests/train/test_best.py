"""The weights of the best step are kept, to the bit, and given back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from tests.train.test_loop import Setup, setup, weights
from tuneoff.errors import DamagedFileError
from tuneoff.recipe.training import TrainingSpec
from tuneoff.records import read_history
from tuneoff.train.best import Validation, best_of, since_best
from tuneoff.train.loop import Outcome, Training

__all__ = ["setup"]  # the fixture of two kinds of model

LOSSES = [5.0, 3.0, 4.0, 3.5, 3.0]  # after 2, 4, 6, 8 and 10 steps: the best is that of step 4


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation after 2, 4, 6, 8 and 10 steps gives LOSSES, also where a training goes on."""
    script(monkeypatch, LOSSES)


def script(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> None:
    monkeypatch.setattr(Training, "validate", lambda self: losses[self._scheduler.last_epoch // 2 - 1])


def spec(precision: Literal["bf16", "fp32"] = "fp32", **changes: Any) -> TrainingSpec:
    fields: dict[str, Any] = {"epochs": 2, "examples_per_step": 8, "eval_steps": 2, "keep": "best", **changes}
    return TrainingSpec(precision=precision, **fields)


def train(setup: Setup, method: str, folder: Path, own: TrainingSpec, stop: int | None = None) -> tuple[Any, Outcome]:
    model = setup.model(method, dropout=0.1)
    return model, setup.train(model, folder, own, validation=True, stop_after=stop)


@pytest.mark.parametrize(
    ("method", "precision"), [("full", "fp32"), ("full", "bf16"), ("lora", "fp32"), ("adalora", "fp32")]
)
@pytest.mark.usefixtures("scripted")
def test_what_is_kept_are_the_weights_of_the_best_step_to_the_bit(
    setup: Setup, tmp_path: Path, method: str, precision: Literal["bf16", "fp32"]
) -> None:
    at_four, stopped = train(setup, method, tmp_path / "four", spec(precision), stop=4)
    last, _ = train(setup, method, tmp_path / "last", spec(precision, keep="last"))
    best, outcome = train(setup, method, tmp_path / "best", spec(precision))
    train(setup, method, tmp_path / "again", spec(precision), stop=7)
    resumed, outcome_resumed = train(setup, method, tmp_path / "again", spec(precision))
    assert stopped.stopped and not outcome.stopped and outcome_resumed.resumed_from_step == 7
    assert (outcome.steps, outcome.kept) == (10, Validation(4, 3.0, outcome.validations[1].train_seconds))
    assert [one.step for one in outcome.validations] == [2, 4, 6, 8, 10]
    assert outcome_resumed.kept is not None and outcome_resumed.kept.step == 4
    wanted = weights(at_four)
    for model in (best, resumed):
        found = weights(model)
        assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert not all(torch.equal(weights(last)[name], value) for name, value in wanted.items())
    assert [path.name for path in (tmp_path / "best" / "checkpoints").iterdir()] == ["best-4"]


@pytest.mark.usefixtures("scripted")
def test_a_training_ends_when_it_has_not_become_better_for_long_enough(setup: Setup, tmp_path: Path) -> None:
    at_four, _ = train(setup, "full", tmp_path / "four", spec(), stop=4)
    early, outcome = train(setup, "full", tmp_path / "early", spec(early_stopping_patience=2))
    assert (outcome.stopped, outcome.steps) == (False, 8)
    assert outcome.kept is not None and outcome.kept.step == 4
    found = weights(early)
    assert all(torch.equal(found[name], value) for name, value in weights(at_four).items())
    lines = [line for line in read_history(tmp_path / "early" / "history.jsonl") if "loss" in line]
    assert lines[-1]["step"] == 8
    assert lines[-1]["learning_rate"] == pytest.approx(1e-3 * 3 / 10)  # the schedule is that of all ten steps
    _, patient = train(setup, "full", tmp_path / "patient", spec(early_stopping_patience=4))
    assert patient.steps == 10


def test_stopped_at_the_step_where_its_patience_ends_it_is_resumed_to_the_same_end(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, [5.0, 3.0, 4.0, 3.5, 1.0])  # step 10, which is not reached, would be the best
    own = spec(early_stopping_patience=2)
    whole, undisturbed = train(setup, "full", tmp_path / "whole", own)
    _, stopped = train(setup, "full", tmp_path / "parts", own, stop=8)
    assert stopped.stopped and stopped.steps == 8
    resumed, outcome = train(setup, "full", tmp_path / "parts", own)
    assert (outcome.stopped, outcome.steps, outcome.resumed_from_step) == (False, undisturbed.steps, 8)
    assert outcome.kept is not None and outcome.kept.step == 4
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(resumed).items())


@pytest.mark.usefixtures("scripted")
def test_kept_weights_that_are_damaged_are_told(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Path] = []

    def damage(self: Any, step: int, *_: Any) -> None:
        path = self._folder / f"best-{step}" / "weights.safetensors"
        kept.append(path)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        restore(self, step, *_)

    from tuneoff.train.best import BestWeights

    restore = BestWeights.restore
    monkeypatch.setattr(BestWeights, "restore", damage)
    with pytest.raises(DamagedFileError, match=r"best-4 weights\.safetensors differs from what was written"):
        train(setup, "full", tmp_path, spec())
    assert len(kept) == 1


@pytest.mark.usefixtures("scripted")
def test_without_the_best_weights_a_training_begins_anew(setup: Setup, tmp_path: Path) -> None:
    whole, _ = train(setup, "full", tmp_path / "whole", spec())
    train(setup, "full", tmp_path / "lost", spec(), stop=7)
    shutil.rmtree(tmp_path / "lost" / "checkpoints" / "best-4")
    again, outcome = train(setup, "full", tmp_path / "lost", spec())
    assert outcome.resumed_from_step is None
    assert outcome.checkpoints_rejected == ["checkpoint-7: the weights of the best step until then, 4, are lost"]
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(again).items())


@pytest.mark.usefixtures("scripted")
def test_what_was_rejected_for_want_of_the_best_weights_does_not_come_back(setup: Setup, tmp_path: Path) -> None:
    """A training that began anew is stopped before the step of the checkpoint that it could not go on from."""
    whole, _ = train(setup, "full", tmp_path / "whole", spec())
    train(setup, "full", tmp_path / "lost", spec(), stop=7)
    shutil.rmtree(tmp_path / "lost" / "checkpoints" / "best-4")
    train(setup, "full", tmp_path / "lost", spec(), stop=3)
    again, outcome = train(setup, "full", tmp_path / "lost", spec())
    assert (outcome.resumed_from_step, outcome.checkpoints_rejected) == (3, [])
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(again).items())


@pytest.mark.usefixtures("scripted")
def test_an_older_checkpoint_does_where_the_newest_lacks_a_validation(setup: Setup, tmp_path: Path) -> None:
    """Of a history that lost the loss after step 6, the first five steps are known whole."""
    whole, _ = train(setup, "full", tmp_path / "whole", spec())
    for stop in (5, 7):
        train(setup, "full", tmp_path / "cut", spec(), stop=stop)
    history = tmp_path / "cut" / "history.jsonl"
    lines = [line for line in history.read_text().splitlines() if not ("eval_loss" in line and '"step": 6' in line)]
    history.write_text("".join(f"{line}\n" for line in lines))
    again, outcome = train(setup, "full", tmp_path / "cut", spec())
    assert outcome.resumed_from_step == 5
    assert outcome.checkpoints_rejected == ["checkpoint-7: the validation loss after step 6 is not in the history"]
    assert outcome.kept is not None and outcome.kept.step == 4
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(again).items())


@pytest.mark.usefixtures("scripted")
def test_better_weights_of_a_later_step_do_as_well(setup: Setup, tmp_path: Path) -> None:
    """Killed after step 4 was kept, and its checkpoint is of step 3: the training comes to step 4 again."""
    whole, _ = train(setup, "full", tmp_path / "whole", spec())
    train(setup, "full", tmp_path / "killed", spec(), stop=3)
    shutil.copytree(tmp_path / "whole" / "checkpoints" / "best-4", tmp_path / "killed" / "checkpoints" / "best-4")
    shutil.rmtree(tmp_path / "killed" / "checkpoints" / "best-2")
    again, outcome = train(setup, "full", tmp_path / "killed", spec())
    assert outcome.resumed_from_step == 3
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(again).items())


def test_validation_every_so_many_steps_and_at_the_end(setup: Setup, tmp_path: Path) -> None:
    _, outcome = train(setup, "full", tmp_path, spec(eval_steps=4, keep="last"))
    assert [one.step for one in outcome.validations] == [4, 8, 10] and outcome.kept is None


def test_the_first_of_equal_losses_is_the_best() -> None:
    validations = [Validation(n, loss, 0.0) for n, loss in enumerate([3.0, 2.0, 2.5, 2.0])]
    assert best_of(validations).step == 1 and since_best(validations) == 2


def test_a_loss_that_is_not_a_number_is_never_the_best() -> None:
    validations = [Validation(n, loss, 0.0) for n, loss in enumerate([float("nan"), 2.0, float("nan")])]
    assert best_of(validations).step == 1 and since_best(validations) == 1
