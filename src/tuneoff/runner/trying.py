"""One try of a search for a learning rate: a short training, judged by its loss on the validation split."""

from __future__ import annotations

from tuneoff.data.tokens import load_tokens
from tuneoff.folder import TrialFolder
from tuneoff.measure.clock import Clock
from tuneoff.model.device import pick_device, pick_precision, synchronize
from tuneoff.model.tokenizer import load_tokenizer
from tuneoff.recipe import Recipe, Trial
from tuneoff.records import Prepared, Try, read_history
from tuneoff.runner.beginning import begin, load_work
from tuneoff.runner.events import Reporter
from tuneoff.runner.stop import Stop, StoppedError
from tuneoff.train.loop import count_steps

SHARE = 4  # a try takes this part of the arm's steps, where the recipe does not say how many


def try_rate(
    recipe: Recipe,
    prepared: Prepared,
    trial: Trial,
    learning_rate: float,
    folder: TrialFolder,
    report: Reporter,
    stop: Stop,
) -> Try:
    """Train for `training.tune_steps` with `learning_rate`, and write what came of it. Nothing of it is used again.

    The learning rate's schedule is that of a whole training of so many steps. Raises StoppedError.
    """
    device = pick_device()
    clock = Clock(lambda: synchronize(device))
    tokenizer = load_tokenizer(prepared.tokenizer_path, prepared.tokenizer_revision)
    steps = tune_steps(recipe, len(load_tokens(prepared.tokens["train"])))
    report.phase("load")
    begun = begin(
        recipe,
        prepared,
        trial,
        load_work(recipe, prepared, trial.seed, steps),
        learning_rate,
        tokenizer=tokenizer,
        precision=pick_precision(recipe.training.precision, device),
        folder=folder,
        clock=clock,
    )
    report.phase("try")
    with stop.kept_for_safe_points():
        outcome = begun.training.run(lambda *_: None, report.progress, lambda: stop.asked)
    if outcome.stopped:
        raise StoppedError
    loss = [line["eval_loss"] for line in read_history(folder.history) if "eval_loss" in line][-1]
    tried = Try(learning_rate=learning_rate, steps=steps, validation_loss=loss, seconds=sum(clock.seconds.values()))
    tried.write(folder.tried)
    return tried


def tune_steps(recipe: Recipe, examples: int) -> int:
    """Optimizer steps of a try: the same for every arm and rate."""
    return recipe.training.tune_steps or max(1, count_steps(examples, recipe.training) // SHARE)
