"""Searches for learning rates → the optima between the rates tried, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from tuneoff.errors import DamagedFileError
from tuneoff.folder import TrialFolder
from tuneoff.records import Record, Try, Tuning, read_validation
from tuneoff.report.arms import Arm
from tuneoff.report.runs import OneRun
from tuneoff.score.groups import Groups
from tuneoff.score.optimum import FEWEST, FoundOptimum, Optimum, RateRatio, find_optimum, rate_ratios
from tuneoff.units import duration_text


class Optima(Record):
    """The optimal learning rate of each arm whose search tells it, and each over that of full fine-tuning."""

    arms: list[Optimum] = Field(default_factory=list)
    ratios: list[RateRatio] = Field(default_factory=list)


def optima(runs: Sequence[OneRun], warnings: list[str]) -> Optima:
    """What the searches of the arms of each run tell; ratios are to full fine-tuning of the same run.

    A file of a try that cannot be read is told in a line that is added to `warnings`.
    """
    found = [_optima(run, warnings) for run in runs]
    return Optima(
        arms=[one for run in found for one in run.arms], ratios=[ratio for run in found for ratio in run.ratios]
    )


def _optima(run: OneRun, warnings: list[str]) -> Optima:
    """Nothing of searches with fewer than four rates, or made by an older tuneoff."""
    found: list[FoundOptimum] = []
    for arm in run.arms:
        try:
            one = _optimum(arm, run.validation_groups)
        except DamagedFileError as error:
            warnings.append(f"{error}: the optimal learning rate of {arm.name} is not told")
            continue
        found += [one] if one is not None else []
    full = next((arm.name for arm in run.arms if arm.spec.method == "full" and arm.tuning is not None), None)
    return Optima(arms=[one.optimum for one in found], ratios=rate_ratios(found, full) if full is not None else [])


def _optimum(arm: Arm, groups: Groups | None) -> FoundOptimum | None:
    """The optimum from the longest tries that tell it: the last rung of a halving in which it lies between the rates.

    Where there is none, that of the first rung, which tried all rates: the best is then at an edge of them.
    """
    if arm.tuning is None:
        return None
    by_rung: dict[int | None, list[tuple[Try, TrialFolder]]] = {}
    for tried, folder in zip(arm.tuning.tries, arm.tried, strict=True):
        if tried.validation_loss is not None:
            by_rung.setdefault(tried.rung, []).append((tried, folder))
    found = [_optimum_of(arm, arm.tuning, rung, groups) for rung in by_rung.values() if len(rung) >= FEWEST]
    known = [one for one in found if one is not None]
    inner = [one for one in known if one.optimum.located] or [one for one in known if one.optimum.edge is None]
    return inner[-1] if inner else next(iter(known), None)


def _optimum_of(
    arm: Arm, tuning: Tuning, tries: Sequence[tuple[Try, TrialFolder]], groups: Groups | None
) -> FoundOptimum | None:
    losses = [read_validation(folder.validation) for _, folder in tries]
    if not all(losses):
        return None
    tokens = [one.tokens for one in losses[0]]
    for (_, folder), own in zip(tries, losses, strict=True):
        if [one.tokens for one in own] != tokens:
            raise DamagedFileError(f"{folder.validation} is damaged (its examples are not those of the other tries)")
    return find_optimum(
        arm.name,
        tries[0][0].steps,
        tuning.chosen,
        np.array([tried.learning_rate for tried, _ in tries]),
        np.array([[one.nats for one in own] for own in losses]),
        np.array(tokens, dtype=np.float64),
        groups,
    )


def tuning_text(tuning: Tuning) -> str:
    """The rate chosen, of which tries and at what cost."""
    rungs: dict[int | None, list[Try]] = {}
    for tried in tuning.tries:
        rungs.setdefault(tried.rung, []).append(tried)
    told = "; ".join(_rung_text(rung) for rung in rungs.values())
    by = "by validation loss" if None in rungs else "by successive halving on validation loss"
    took = duration_text(sum(t.seconds for t in tuning.tries))
    return f"learning rate {tuning.chosen:g}, {by} {told}; the search took {took}"


def _rung_text(tries: Sequence[Try]) -> str:
    losses = ["died" if t.validation_loss is None else f"{t.validation_loss:.3f}" for t in tries]
    shown = ", ".join(f"{t.learning_rate:g}: {loss}" for t, loss in zip(tries, losses, strict=True))
    return f"after {max(t.steps for t in tries)} steps ({shown})"


def optima_texts(found: Optima) -> list[str]:
    """A line for each optimum, one for each ratio, and one that says what they are."""
    lines = [f"{one.arm}: {_optimum_text(one)}" for one in found.arms]
    lines += [
        f"{ratio.arm} ÷ {ratio.baseline}: the best rate is {ratio.value:.3g} times as high, "
        f"{interval_text(ratio.low, ratio.high, '{:.3g}')}"
        for ratio in found.ratios
    ]
    if any(one.located for one in found.arms):
        lines.append(
            "best rates: of a parabola in the rate's logarithm through the best one tried and its neighbours; 95 % "
            "intervals over validation examples, for trainings with this seed"
        )
    return lines


def _optimum_text(one: Optimum) -> str:
    if one.edge is not None:
        most, more = ("most", "lower") if one.edge == "lowest" else ("least", "higher")
        return (
            f"the best rate after {one.steps} steps is at {most} {one.rate:g}, the {one.edge} of {one.rates} with a "
            f"finite loss: that is a bound, without an interval. Try {more} rates"
        )
    if one.diverged is not None:
        return (
            f"the best rate after {one.steps} steps lies between {one.below:g} and {one.above:g}: {one.diverged:g} has "
            f"diverged, and tells nothing closer. Try rates around {one.rate:g}"
        )
    sharp = ", ".join(
        f"{loss - one.loss_at_chosen:+.3f} at {name}"
        for name, loss in (("half of it", one.loss_at_half), ("its double", one.loss_at_double))
        if loss is not None and one.loss_at_chosen is not None
    )
    interval, tried = (
        interval_text(one.low, one.high, "{:.2g}"),
        f"between {one.below:g} and {one.above:g} that were tried",
    )
    return (
        f"the best rate after {one.steps} steps is {one.rate:.2g}, {interval}, {tried}, on {one.examples} validation "
        "examples" + (f"; loss in nats per token predicted against that at {one.chosen:g}: {sharp}" if sharp else "")
    )


def interval_text(low: float | None, high: float | None, form: str) -> str:
    """`[0.001, 0.003]`; an open end is `…`: it lies beyond the rates that were tried."""
    ends = ["…" if end is None else form.format(end) for end in (low, high)]
    return f"[{ends[0]}, {ends[1]}]"
