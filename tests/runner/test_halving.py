"""Successive halving: its budget, whom it keeps, and that a killed search goes on."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import recipe_values
from tests.runner.test_run import Silent, asked, children  # noqa: F401  the fixtures
from tuneoff.errors import InterruptedRunError
from tuneoff.folder import RunFolder
from tuneoff.recipe import Recipe
from tuneoff.records import Failure, Resolved, TrialResult, Try, Tuning
from tuneoff.runner import run as running
from tuneoff.runner.halving import better_half, rung_sizes, rung_steps
from tuneoff.runner.process import Ended
from tuneoff.runner.run import Run
from tuneoff.runner.trying import try_steps

RATES = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]


def tried(rate: float, loss: float | None) -> Try:
    return Try(learning_rate=rate, rung=1, steps=1, validation_loss=loss, seconds=0.0)


@pytest.mark.parametrize("rates", range(3, 40))
def test_rungs_double_their_steps_and_keep_to_the_budget_of_a_plain_search(rates: int) -> None:
    for tune_steps in (1, 7, 100):
        sizes, steps = rung_sizes(rates), rung_steps(rates, tune_steps)
        assert sizes[0] == rates and sizes[-1] == 2
        assert all(after == (before + 1) // 2 for before, after in pairwise(sizes))
        assert all(after == 2 * before for before, after in pairwise(steps))
        spent = sum(size * count for size, count in zip(sizes, steps, strict=True))
        assert spent <= rates * tune_steps or steps[0] == 1
        more = sum(size * (count + 2**rung) for rung, (size, count) in enumerate(zip(sizes, steps, strict=True)))
        assert more > rates * tune_steps  # a step more of the first rung would be too many


@pytest.mark.parametrize("seed", range(10))
def test_the_better_half_is_kept_in_its_order(seed: int) -> None:
    rng = random.Random(seed)
    tries = [tried(rate, rng.choice([None, float("inf"), rng.random(), rng.random()])) for rate in range(1, 9)]
    kept = better_half(tries)
    known = {t.learning_rate: t.validation_loss for t in tries if t.validation_loss not in (None, float("inf"))}
    assert len(kept) == min(4, len(known)) and kept == sorted(kept)
    others = known.keys() - set(kept)
    assert all(known[one] <= known[other] for one in kept for other in others)  # type: ignore[operator]


class Search:
    """Runs of one arm, whose child processes end as they are told to."""

    def __init__(self, data_folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        values = recipe_values(data_folder)
        values["arms"] = {"full": {"method": "full", "tune": {"learning_rate": RATES, "halving": True}}}
        self.recipe, self.path, self._monkeypatch = Recipe.model_validate(values), path, monkeypatch
        self.made: list[tuple[float, int]] = []

    def carry_out(self, losses: Callable[[float, int], float | Ended], name: str = "run") -> bool:
        """Whether the run in the folder `name` is done. Its tries are put into `made`: the rate and the rung of each.

        `losses(rate, rung)` is the loss of a try, or how else it ends.
        """
        self.made = made = []

        def try_(child: Any) -> Ended:
            rate, rung = float(child.work[3]), int(child.work[4])
            made.append((rate, rung))
            loss = losses(rate, rung)
            if isinstance(loss, Ended):
                return loss
            origin = Resolved.read(child.folder.resolved).origin
            one = Try(origin=origin, learning_rate=rate, rung=rung, steps=2**rung, validation_loss=loss, seconds=1.0)
            one.write(child.folder.rate(child.work[1], rate, rung).tried)
            return Ended()

        self._monkeypatch.setattr(running.Child, "try", try_, raising=True)
        return Run(self.recipe, self.folder(name), Silent()).carry_out()

    def folder(self, name: str = "run") -> RunFolder:
        return RunFolder(self.path / name)

    def tuning(self, name: str = "run") -> Tuning:
        return Tuning.read(self.folder(name).tuning("full"))

    def result(self) -> TrialResult:
        return TrialResult.read(self.folder().trial("full", 0).result)


@pytest.fixture
def search(
    children: dict[str, Ended],  # noqa: F811
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Search:
    return Search(data_folder, tmp_path, monkeypatch)


def diverged(rate: float) -> Ended:
    return Ended(failure=Failure(kind="not a number", message=f"nan at {rate:g}", log=f"log of {rate:g}"))


def test_the_search_narrows_to_the_best_of_the_last_rung(search: Search) -> None:
    order = {1: {1e-5: 5, 1e-4: 2, 1e-3: 3, 1e-2: 1, 1e-1: 4}, 2: {1e-2: 3, 1e-4: 1, 1e-3: 2}, 3: {1e-4: 2, 1e-3: 1}}
    assert search.carry_out(lambda rate, rung: float(order[rung][rate]))
    made = [*((r, 1) for r in RATES), (1e-4, 2), (1e-3, 2), (1e-2, 2), (1e-4, 3), (1e-3, 3)]
    assert search.made == made
    tuning = search.tuning()
    assert tuning.chosen == 1e-3
    assert [(t.learning_rate, t.rung, t.steps, t.seconds) for t in tuning.tries] == [(*m, 2 ** m[1], 1.0) for m in made]
    assert search.result().settings["learning_rate"] == 1e-3


def test_a_killed_search_goes_on_without_what_was_finished(search: Search) -> None:
    """What diverged is finished, too."""

    def losses(rate: float, rung: int) -> float | Ended:
        return diverged(rate) if rate == 1e-1 else abs(rate - 1e-3) + rung

    search.carry_out(losses, "whole")
    whole, expected = search.made, search.tuning("whole")
    assert whole[5:] == [(1e-5, 2), (1e-4, 2), (1e-3, 2), (1e-4, 3), (1e-3, 3)] and len(whole) == 10
    for kill in range(len(whole)):

        def stopped(rate: float, rung: int, at: int = kill) -> float | Ended:
            return Ended(stopped=True) if (rate, rung) == whole[at] else losses(rate, rung)

        with pytest.raises(InterruptedRunError):
            search.carry_out(stopped, "killed")
        assert search.made == whole[max(0, kill - 1) : kill + 1]  # the one that was stopped before, and then this one
    assert search.carry_out(losses, "killed")
    assert search.made == whole[-1:]
    found = search.tuning("killed")
    assert found.chosen == expected.chosen
    assert [t.model_dump(exclude={"origin"}) for t in found.tries] == [
        t.model_dump(exclude={"origin"}) for t in expected.tries
    ]


def test_a_rate_alone_with_a_finite_loss_is_chosen_at_once(search: Search) -> None:
    assert search.carry_out(lambda rate, _: 1.0 if rate == 1e-5 else diverged(rate))
    assert len(search.made) == 5 and search.tuning().chosen == 1e-5


@pytest.mark.parametrize(
    ("rung", "last", "message"),
    [
        (1, 1e-1, "the search tried 1e-05, 0.0001, 0.001, 0.01, 0.1, and no rate has a finite validation loss"),
        (
            2,
            1e-3,
            "the search found no rate: 1e-05, 0.0001, 0.001 had a finite validation loss after 2 steps, "
            "and none has one after the steps of rung 2",
        ),
        (
            3,
            1e-3,
            "the search found no rate: 0.0001, 0.001 had a finite validation loss after 4 steps, "
            "and none has one after the steps of rung 3",
        ),
    ],
)
def test_a_rung_without_a_finite_loss_is_told(search: Search, rung: int, last: float, message: str) -> None:
    assert not search.carry_out(lambda rate, at: diverged(rate) if at == rung else abs(rate - 1e-3))
    told = f"{message}; try lower rates (at {last:g}: nan at {last:g})"
    assert search.result().failure == Failure(kind="not a number", message=told, log=f"log of {last:g}")
    assert not search.folder().tuning("full").exists()


def test_what_a_rung_died_of_besides_its_losses_is_its_failure(search: Search) -> None:
    no_memory = Ended(failure=Failure(kind="out of memory", message="13 GB too much", log=""))
    second = {1e-5: no_memory, 1e-4: diverged(1e-4), 1e-3: diverged(1e-3)}
    assert not search.carry_out(lambda rate, rung: 1.0 if rung == 1 else second[rate])
    assert search.result().failure == no_memory.failure


def test_steps_of_a_try(data_folder: Path) -> None:
    recipe = Recipe.model_validate(recipe_values(data_folder) | {"arms": {"x": {
        "method": "full", "tune": {"learning_rate": [1, 2, 3, 4], "halving": True}}}})  # fmt: skip
    tune = recipe.arms["x"].tune
    assert tune is not None
    assert [try_steps(tune, 10, rung) for rung in (None, 1, 2)] == [10, 5, 10]


def test_with_halving_every_search_has_as_many_rates(data_folder: Path) -> None:
    values = recipe_values(data_folder)
    values["arms"] = {
        "full": {"method": "full", "tune": {"learning_rate": [1, 2, 3, 4], "halving": True}},
        "lora": {"method": "lora", "tune": {"learning_rate": [1, 2, 3]}},
    }
    with pytest.raises(ValueError, match="equally many rates, for the same budget: full 4, lora 3"):
        Recipe.model_validate(values)
    for rates, message in (([1, 2], "three rates or more"), ([1, 2, 2], "every rate once")):
        values["arms"] = {"full": {"method": "full", "tune": {"learning_rate": rates, "halving": True}}}
        with pytest.raises(ValueError, match=message):
            Recipe.model_validate(values)
