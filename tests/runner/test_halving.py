"""Successive halving: its budget, whom it keeps, and that a killed search goes on."""

from __future__ import annotations

import random
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


def begin(data_folder: Path, path: Path) -> tuple[Recipe, RunFolder]:
    values = recipe_values(data_folder)
    values["arms"] = {"full": {"method": "full", "tune": {"learning_rate": RATES, "halving": True}}}
    return Recipe.model_validate(values), RunFolder(path)


def trying(monkeypatch: pytest.MonkeyPatch, losses: Any) -> list[tuple[float, int]]:
    """Children of `test_run` that try rates: `losses(rate, rung)` is a loss, or how a try ends. Returns the tries."""
    made: list[tuple[float, int]] = []

    def try_(self: Any) -> Ended:
        rate, rung = float(self.work[3]), int(self.work[4])
        made.append((rate, rung))
        ended = losses(rate, rung)
        if isinstance(ended, Ended):
            return ended
        origin = Resolved.read(self.folder.resolved).origin
        one = Try(origin=origin, learning_rate=rate, rung=rung, steps=2**rung, validation_loss=ended, seconds=1.0)
        one.write(self.folder.rate(self.work[1], rate, rung).tried)
        return Ended()

    monkeypatch.setattr(running.Child, "try", try_, raising=True)
    return made


def test_the_search_narrows_to_the_best_of_the_last_rung(
    children: dict[str, Ended],  # noqa: F811
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = {1: {1e-5: 5, 1e-4: 2, 1e-3: 3, 1e-2: 1, 1e-1: 4}, 2: {1e-2: 3, 1e-4: 1, 1e-3: 2}, 3: {1e-4: 2, 1e-3: 1}}
    made = trying(monkeypatch, lambda rate, rung: float(order[rung][rate]))
    recipe, folder = begin(data_folder, tmp_path)
    assert Run(recipe, folder, Silent()).carry_out()
    assert made == [*((r, 1) for r in RATES), (1e-4, 2), (1e-3, 2), (1e-2, 2), (1e-4, 3), (1e-3, 3)]
    tuning = Tuning.read(folder.tuning("full"))
    assert tuning.chosen == 1e-3
    assert [(t.learning_rate, t.rung, t.steps, t.seconds) for t in tuning.tries] == [(*m, 2 ** m[1], 1.0) for m in made]
    assert TrialResult.read(folder.trial("full", 0).result).settings["learning_rate"] == 1e-3


def test_a_killed_search_goes_on_without_what_was_finished(
    children: dict[str, Ended],  # noqa: F811
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What diverged is finished, too."""
    diverged = Ended(failure=Failure(kind="not a number", message="nan", log=""))

    def losses(rate: float, rung: int) -> Any:
        return diverged if rate == 1e-1 else abs(rate - 1e-3) + rung

    whole, (recipe, folder) = trying(monkeypatch, losses), begin(data_folder, tmp_path / "whole")
    Run(recipe, folder, Silent()).carry_out()
    expected = Tuning.read(folder.tuning("full"))
    assert whole[5:] == [(1e-5, 2), (1e-4, 2), (1e-3, 2), (1e-4, 3), (1e-3, 3)] and len(whole) == 10
    recipe, folder = begin(data_folder, tmp_path / "killed")
    seen: list[tuple[float, int]] = []
    for kill in range(len(whole)):

        def stopped(rate: float, rung: int, at: int = kill) -> Any:
            return Ended(stopped=True) if (rate, rung) == whole[at] else losses(rate, rung)

        made = trying(monkeypatch, stopped)
        with pytest.raises(InterruptedRunError):
            Run(recipe, folder, Silent()).carry_out()
        assert made == whole[max(0, kill - 1) : kill + 1]  # the one that was stopped before, and then this one
        seen += made
    made = trying(monkeypatch, losses)
    assert Run(recipe, folder, Silent()).carry_out()
    assert made == whole[-1:]
    found = Tuning.read(folder.tuning("full"))
    assert found.chosen == expected.chosen
    assert [t.model_dump(exclude={"origin"}) for t in found.tries] == [
        t.model_dump(exclude={"origin"}) for t in expected.tries
    ]


def test_a_rate_alone_with_a_finite_loss_is_chosen_at_once(
    children: dict[str, Ended],  # noqa: F811
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    died = Ended(failure=Failure(kind="not a number", message="nan", log=""))
    made = trying(monkeypatch, lambda rate, rung: 1.0 if rate == 1e-5 else died)
    recipe, folder = begin(data_folder, tmp_path)
    assert Run(recipe, folder, Silent()).carry_out()
    assert len(made) == 5 and Tuning.read(folder.tuning("full")).chosen == 1e-5


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
def test_a_rung_without_a_finite_loss_is_told(
    children: dict[str, Ended],  # noqa: F811
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rung: int,
    last: float,
    message: str,
) -> None:
    def losses(rate: float, at: int) -> Any:
        diverged = Failure(kind="not a number", message=f"nan at {rate:g}", log=f"log of {rate:g}")
        return Ended(failure=diverged) if at == rung else abs(rate - 1e-3)

    trying(monkeypatch, losses)
    recipe, folder = begin(data_folder, tmp_path)
    assert not Run(recipe, folder, Silent()).carry_out()
    told = f"{message}; try lower rates (at {last:g}: nan at {last:g})"
    failure = TrialResult.read(folder.trial("full", 0).result).failure
    assert failure == Failure(kind="not a number", message=told, log=f"log of {last:g}")
    assert not folder.tuning("full").exists()


def test_what_a_rung_died_of_besides_its_losses_is_its_failure(
    children: dict[str, Ended],  # noqa: F811
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_memory = Failure(kind="out of memory", message="13 GB too much", log="")
    diverged = Failure(kind="not a number", message="nan", log="")
    trying(monkeypatch, lambda rate, rung: 1.0 if rung == 1 else Ended(failure=diverged if rate > 1e-5 else no_memory))
    recipe, folder = begin(data_folder, tmp_path)
    assert not Run(recipe, folder, Silent()).carry_out()
    assert TrialResult.read(folder.trial("full", 0).result).failure == no_memory


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
