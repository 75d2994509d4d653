"""What a trial checks on itself: that it computes what it claims to compare.

On examples of the trial's own first step, without dropout: the engine's loss and gradient against plain transformers,
and the examples one by one against all together. After the second update: every trainable tensor has changed, and no
frozen one. After saving: the reloaded model has the trained model's loss. A check that fails raises CheckFailedError.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from tuneoff.data.tokens import IGNORED
from tuneoff.errors import CheckFailedError
from tuneoff.model.engines import Engine
from tuneoff.model.methods import method_loss
from tuneoff.records import Agreement, Checks, Moved
from tuneoff.train.adamw import ExactAdamW
from tuneoff.train.loop import Batch, Training
from tuneoff.train.optimizer import gradient_norm
from tuneoff.train.randomness import same_random_states

# Updates after which tensors are compared. After the first, LoRA's A has not moved yet: its gradient is 0 while B is.
# What has not moved after the second is given until the last: dropped layers and experts get no gradient in a step.
FIRST, LAST = 2, 8
MOVING = 1e-6  # the least learning rate of an update that counts: by less an fp32 weight near 1 may not change
FLOOR = 1e-3  # what a difference is at least relative to: a loss of nearly 0 is all rounding
# The largest relative difference of a loss and of a gradient's norm that is rounding, by precision.
LOSS, NORM = {False: 1e-4, True: 2e-2}, {False: 1e-3, True: 1e-1}
RELOADED = 1e-4  # of a loss by the same engine on the same weights
REPORT = "Please report this with the recipe"


class TrialChecks:
    """The checks of one trial, in the order in which they are made; `record` holds what was found."""

    def __init__(self, training: Training) -> None:
        self._training = training
        self._examples = _chosen(training)
        self._batch: Batch = training.batch(self._examples)
        self._before: dict[str, int] = {}
        self._trained: dict[str, dict[torch.dtype, int]] = {}
        self._shapes: dict[str, torch.Size] = {}
        self._updates = 0
        self.record = Checks(examples=len(self._examples))

    def first_step(self) -> None:
        """Compare loss and gradient with those of plain transformers, and one by one with all together."""
        bf16 = self._engine.bf16
        with self._timed(), _without_dropout(self._engine.model), same_random_states():
            theirs = self._by_transformers()
            ours = self._by_loop([self._batch])
            found = {"loss": _agreement(ours[0], theirs[0], LOSS[bf16])}
            found["gradient_norm"] = _agreement(ours[1], theirs[1], NORM[bf16])
            if len(self._examples) > 1:
                alone = self._by_loop([self._training.batch([example]) for example in self._examples])
                found["split_loss"] = _agreement(alone[0], ours[0], LOSS[bf16])
                found["split_gradient_norm"] = _agreement(alone[1], ours[1], NORM[bf16])
        self._note(**found)
        if len(self._examples) == 1:
            self._skip("the split: one example of the first step is all that was sure to fit into memory")
        for name, what in (
            ("loss", "its loss on the first step is {0:.6g}, and plain transformers has {1:.6g}"),
            ("gradient_norm", "its gradient's norm is {0:.6g} on the first step, and plain transformers has {1:.6g}"),
            ("split_loss", "two examples one by one have the loss {0:.6g}, and together {1:.6g}"),
            ("split_gradient_norm", "the gradient's norm of two examples one by one is {0:.6g}, and together {1:.6g}"),
        ):
            agreement: Agreement | None = found.get(name)
            if agreement is not None and not agreement.holds:
                said = what.format(agreement.value, agreement.reference)
                plain = "" if self._engine.name == "plain" else "; training.engine: plain trains without this engine"
                raise CheckFailedError(
                    f"the engine {self._engine.name} computes something else: {said}. {REPORT}{plain}"
                )

    def watch(self) -> None:
        """Remember what all tensors are before the first update."""
        with self._timed():
            self._before = {name: value for name, _, value in self._tensors()}

    @property
    def _engine(self) -> Engine:
        return self._training.engine

    @property
    def watching(self) -> bool:
        """Whether tensors are still to be compared with what they were before the first update."""
        return bool(self._before)

    def after_update(self, learning_rate: float) -> None:
        """Count an update, and after the second with a learning rate to speak of compare all tensors with before."""
        self._updates += learning_rate >= MOVING
        if not self.watching or self._updates < FIRST:
            return
        with self._timed():
            now = [(name, trained, value != self._before[name]) for name, trained, value in self._tensors()]
        still = [name for name, trained, moved in now if trained and not moved]
        astray = [name for name, trained, moved in now if not trained and moved]
        moved = Moved(
            updates=self._updates,
            trainable=sum(trained for _, trained, _ in now),
            moved=sum(trained and moved for _, trained, moved in now),
            frozen=sum(not trained for _, trained, _ in now),
            frozen_moved=len(astray),
        )
        self._note(moved=moved)
        if astray:
            raise CheckFailedError(
                f"{len(astray)} tensors that are to stay frozen changed in the first updates ({_some(astray)}). "
                + REPORT
            )
        if still and self._updates >= LAST:
            raise CheckFailedError(
                f"{len(still)} of {moved.trainable} tensors that are to be trained did not change in {self._updates} "
                f"updates ({_some(still)}): the model does not use them for text, or no gradient reaches them. A "
                "method of peft leaves them out by its target_modules"
            )
        if not still:
            self._before = {}

    def trained_loss(self) -> float:
        """The trained model's loss on the examples, in nats a target token."""
        if self.watching:
            self._skip(f"which tensors change: the training ended after {self._updates} updates")
            self._before = {}
        return self._loss(self._engine)

    def note_trained(self) -> None:
        """Remember what is about to be saved: every trained tensor, as it is and rounded to bf16."""
        with self._timed():
            model = self._engine.model
            self._shapes = {name: weight.shape for name, weight in model.named_parameters()}
            # What a prompt encoder has written is saved in its place, under the name of what it was made from.
            encodes = hasattr(model, "peft_config") and model.active_peft_config.is_prompt_learning
            self._trained = (
                {}
                if encodes
                else {
                    name: {dtype: _fingerprint(weight.detach().to(dtype)) for dtype in (weight.dtype, torch.bfloat16)}
                    for name, weight in model.named_parameters()
                    if weight.requires_grad
                }
            )

    def reloaded(self, trained_loss: float, engine: Engine) -> None:
        """Compare the saved and reloaded model, which `engine` computes, with the trained one: tensors and loss.

        A tensor that the method saves in another shape (AdaLoRA without the ranks that it has given up, the output of a
        prompt encoder in its place) is compared by the loss alone.
        """
        with self._timed():
            weights = dict(engine.model.named_parameters())
            compared = {
                name: _fingerprint(weights[name]) == prints[weights[name].dtype]
                for name, prints in self._trained.items()
                if name in weights and weights[name].dtype in prints and weights[name].shape == self._shapes[name]
            }
        # An adapter that is saved in another form, of another rank, was trained on a base that bf16 had rounded.
        other_form = any(name in weights and weights[name].shape != shape for name, shape in self._shapes.items())
        tolerance = LOSS[True] if other_form and engine.bf16 else RELOADED
        loss = _agreement(self._loss(engine), trained_loss, tolerance)
        self._note(reloaded_loss=loss, reloaded_tensors=sum(compared.values()))
        lost = [name for name, equal in compared.items() if not equal]
        if lost:
            raise CheckFailedError(
                f"what was saved is not what was trained: {len(lost)} of {len(compared)} trained tensors are others "
                f"when they are loaded again ({_some(lost)})"
            )
        if not loss.holds:
            raise CheckFailedError(
                f"what was saved is not what was trained: loaded again, its loss is {loss.value:.6g} on examples of "
                f"the first step, and the trained model's is {loss.reference:.6g}. Not all that was trained was saved"
            )

    def _loss(self, engine: Engine) -> float:
        with self._timed(), _without_dropout(engine.model), torch.no_grad():
            return float(engine.loss(self._batch)) / _count(self._batch)

    def _by_loop(self, batches: Sequence[Batch]) -> tuple[float, float]:
        """Loss in nats a target token and the gradient's norm, as the training loop computes them for a step."""
        loss = self._training.backward(batches, sum(map(_count, batches)))
        return loss, self._norm()

    def _by_transformers(self) -> tuple[float, float]:
        """The same by transformers' own model and loss. A term of the method's own is in the gradient alone."""
        model, own = self._engine.model, method_loss(self._engine.model)
        device = self._batch["labels"].device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self._engine.bf16):
            loss: torch.Tensor = model(**self._batch).loss
        loss.backward()
        return float(loss.detach()) - (0.0 if own is None else float(own.detach())), self._norm()

    def _norm(self) -> float:
        norm = gradient_norm(self._training.optimizer)
        self._training.optimizer.zero_grad()
        return norm

    def _tensors(self) -> Iterator[tuple[str, bool, int]]:
        """Each parameter's name, whether it is trained, and a number that tells its value."""
        optimizer = self._training.optimizer
        rests = optimizer.rests if isinstance(optimizer, ExactAdamW) else {}
        for name, weight in self._engine.model.named_parameters():
            rest = rests.get(weight)
            yield name, weight.requires_grad, _fingerprint(weight) + (0 if rest is None else _fingerprint(rest))

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._note(seconds=round(self.record.seconds + time.monotonic() - began, 3))

    def _note(self, **found: Any) -> None:
        self.record = self.record.model_copy(update=found)

    def _skip(self, reason: str) -> None:
        self._note(not_checked=[*self.record.not_checked, reason])


def _chosen(training: Training) -> list[int]:
    """The longest and the shortest example of the first step where both fit into one micro-batch; else the shortest.

    The checks are made without activation checkpointing, which transformers has in training mode alone: where the
    recipe asks for it, the shortest is all that memory is likely to have room for.
    """
    lengths = training.steps.lengths
    first = sorted(training.steps.examples(0), key=lambda i: sum(lengths[i]))
    if training.checkpointing:
        return first[:1]
    for pair in ((first[-1], first[0]), (first[0], first[1 % len(first)])):
        if pair[0] != pair[1] and len(training.split(list(pair))) == 1:
            return list(pair)
    return first[:1]


def _count(batch: Batch) -> int:
    return int((batch["labels"] != IGNORED).sum())


def _agreement(value: float, reference: float, tolerance: float) -> Agreement:
    difference = abs(value - reference) / max(abs(reference), FLOOR)
    return Agreement(value=value, reference=reference, difference=difference, tolerance=tolerance)


def _fingerprint(tensor: torch.Tensor) -> int:
    """The sum of a tensor's bytes, read as integers of 64 bits: it changes when any value does, but for rare chance."""
    data = tensor.detach().contiguous().view(-1).view(torch.uint8)
    whole = len(data) // 8 * 8
    return int(data[:whole].view(torch.int64).sum()) + int(data[whole:].sum(dtype=torch.int64))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


@contextmanager
def _without_dropout(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
