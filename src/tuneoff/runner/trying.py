"""One try of a search for a learning rate: a short training, judged by its loss on the validation split."""

from __future__ import annotations

from tuneoff.data.contents import require_same_model
from tuneoff.data.tokens import load_tokens
from tuneoff.folder import TrialFolder
from tuneoff.measure.clock import Clock
from tuneoff.model.device import pick_device, settled_precision, synchronize
from tuneoff.model.tokenizer import load_tokenizer
from tuneoff.recipe import Recipe, Trial, resolved_recipe
from tuneoff.records import Resolved, Try, read_history
from tuneoff.runner.beginning import load_steps, make_ready
from tuneoff.runner.events import Reporter
from tuneoff.runner.stop import Stop, StoppedError
from tuneoff.train.steps import count_steps

SHARE = 4  # a try takes this part of the arm's steps, where the recipe does not say how many


def try_rate(
    resolved: Resolved, trial: Trial, learning_rate: float, folder: TrialFolder, report: Reporter, stop: Stop
) -> Try:
    """Train for `training.tune_steps` with `learning_rate`, and write what came of it. Nothing of it is used again.

    The learning rate's schedule is that of a whole training of so many steps. Raises StoppedError.
    """
    require_same_model(resolved)
    device = pick_device()
    clock = Clock(lambda: synchronize(device))
    recipe = resolved_recipe(resolved)
    steps = load_steps(resolved, trial.seed, tune_steps(recipe, len(load_tokens(resolved.tokens["train"]))))
    report.phase("load")
    ready = make_ready(
        resolved,
        trial,
        steps,
        learning_rate,
        tokenizer=load_tokenizer(resolved.tokenizer_path, resolved.tokenizer_revision),
        precision=settled_precision(resolved.precision, resolved.precision_reason, device),
        folder=folder,
        clock=clock,
    )
    report.phase("try")

    def progress(done: int, loss: float, _rate: float) -> None:
        report.progress(done, steps.count, loss)

    with stop.kept_for_safe_points():
        outcome = ready.training.run(lambda _: None, progress, lambda: stop.asked)
    if outcome.stopped:
        raise StoppedError
    loss = [line["eval_loss"] for line in read_history(folder.history) if "eval_loss" in line][-1]
    seconds = sum(clock.seconds.values())
    tried = Try(
        origin=resolved.origin, learning_rate=learning_rate, steps=steps.count, validation_loss=loss, seconds=seconds
    )
    tried.write(folder.tried)
    return tried


def tune_steps(recipe: Recipe, examples: int) -> int:
    """Optimizer steps of a try: the same for every arm and rate."""
    return recipe.training.tune_steps or max(1, count_steps(examples, recipe.training) // SHARE)
