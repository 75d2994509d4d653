"""One try of a search for a learning rate: a short training, judged by its loss on the validation split."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from tuneoff.data.batches import collator_for
from tuneoff.data.contents import require_same_model
from tuneoff.data.tokens import IGNORED, load_tokens
from tuneoff.decode.likelihood import AT_ONCE, row_losses
from tuneoff.folder import TrialFolder, write_lines
from tuneoff.measure.clock import Clock
from tuneoff.measure.use import UseMeter
from tuneoff.model.base import model_class
from tuneoff.model.device import pick_device, settled_precision, synchronize
from tuneoff.model.engines import Engine
from tuneoff.model.tokenizer import load_tokenizer
from tuneoff.recipe import Trial, resolved_recipe
from tuneoff.recipe.arm import TuneSpec
from tuneoff.records import Resolved, Try, ValidationLoss
from tuneoff.runner.beginning import load_steps, make_ready
from tuneoff.runner.events import Reporter
from tuneoff.runner.halving import rung_steps
from tuneoff.runner.stop import Stop, StoppedError
from tuneoff.train.loop import NotANumberError
from tuneoff.train.steps import Steps, count_steps

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def try_rate(
    resolved: Resolved,
    trial: Trial,
    learning_rate: float,
    folder: TrialFolder,
    report: Reporter,
    stop: Stop,
    rung: int | None = None,
) -> Try:
    """Train for the steps of a try with `learning_rate`, and write what came of it. Nothing of it is used again.

    `rung` is which of a successive halving this is, counted from 1. The learning rate's schedule is that of a whole
    training of so many steps. The validation split is read once, at the end, example by example. Raises StoppedError,
    and NotANumberError where the loss is not finite.
    """
    require_same_model(resolved)
    device = pick_device()
    clock = Clock(lambda: synchronize(device))
    recipe = resolved_recipe(resolved)
    tune = recipe.arms[trial.arm].tune
    assert tune is not None  # or nothing would be tried
    whole = count_steps(len(load_tokens(resolved.tokens["train"])), recipe.training)
    count = try_steps(tune, recipe.training.search_steps(whole), rung)
    steps = load_steps(resolved, trial.seed, count)
    tokenizer = load_tokenizer(resolved.tokenizer_path, resolved.tokenizer_revision)
    report.phase("load")
    ready = make_ready(
        resolved,
        trial,
        replace(steps, validation=None),
        learning_rate,
        tokenizer=tokenizer,
        precision=settled_precision(resolved.precision, resolved.precision_reason, device),
        folder=folder,
        clock=clock,
    )
    report.measure(UseMeter(device))
    report.phase("try")
    tokens = 0

    def progress(done: int, loss: float, _rate: float) -> None:
        nonlocal tokens
        tokens += steps.tokens(steps.examples(done - 1), causal=resolved.model_class == "causal")
        report.progress(done, steps.count, loss, tokens)

    with stop.kept_for_safe_points():
        outcome = ready.training.run(lambda _: None, progress, lambda: stop.asked)
    if outcome.stopped:
        raise StoppedError
    with clock.phase("validate"):
        report.phase("validate")
        losses = validation_losses(ready.training.engine, tokenizer, steps, resolved.micro_batch)
    loss = sum(one.nats for one in losses) / sum(one.tokens for one in losses)
    if not math.isfinite(loss):
        raise NotANumberError(f"the loss on the validation split is {loss} after {steps.count} steps")
    write_lines(folder.validation, (one.model_dump() for one in losses))
    tried = Try(
        origin=resolved.origin,
        learning_rate=learning_rate,
        rung=rung,
        steps=steps.count,
        validation_loss=loss,
        seconds=sum(clock.seconds.values()),
    )
    tried.write(folder.tried)
    return tried


def validation_losses(
    engine: Engine, tokenizer: PreTrainedTokenizerBase, steps: Steps, micro_batch: int
) -> list[ValidationLoss]:
    """The loss on each example of the validation split, in the order of the data, at most `micro_batch` at once."""
    assert steps.validation is not None  # a recipe with `tune` has one
    rows = list(steps.validation)
    collate = collator_for(engine.model, tokenizer, model_class(engine.model.config))
    losses = row_losses(engine, collate, rows, min(AT_ONCE, micro_batch))
    return [
        ValidationLoss(nats=nats, tokens=sum(label != IGNORED for label in row["labels"]))
        for row, nats in zip(rows, losses, strict=True)
    ]


def try_steps(tune: TuneSpec, count: int, rung: int | None) -> int:
    """Optimizer steps of a try where each rate has `count` for itself, in a rung of a halving (None: there is none)."""
    return count if rung is None else rung_steps(len(tune.learning_rate), count)[rung - 1]
