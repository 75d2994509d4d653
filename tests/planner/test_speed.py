from __future__ import annotations

import numpy as np
import pytest

from tuneoff.planner.speed import FLOOR, fit
from tuneoff.planner.work import Work


@pytest.mark.parametrize("seed", range(5))
def test_the_fit_finds_what_made_the_times(seed: int) -> None:
    random = np.random.default_rng(seed)
    true = 10.0 ** random.uniform([-12, -11, -6], [-10, -9, -4])
    works = [Work(*(10.0 ** random.uniform([10, 9, 3], [12, 11, 5]))) for _ in range(8)]
    speed = fit([(work, float(np.dot(work.parts(), true))) for work in works], "made up")
    assert (speed.flop, speed.byte, speed.call) == pytest.approx(tuple(true), rel=1e-6)
    assert speed.spread == FLOOR
    new = Work(*(10.0 ** random.uniform([10, 9, 3], [12, 11, 5])))
    assert speed.seconds(new).value == pytest.approx(float(np.dot(new.parts(), true)))


@pytest.mark.parametrize("seed", range(5))
def test_no_figure_is_negative_whatever_the_noise(seed: int) -> None:
    random = np.random.default_rng(seed)
    samples = [(Work(*random.uniform(1, 9, 3)), float(random.uniform(1, 9))) for _ in range(6)]
    speed = fit(samples, "noise")
    assert min(speed.flop, speed.byte, speed.call) >= 0
    worst = max(abs(speed.seconds(work).value / seconds - 1) for work, seconds in samples)
    assert speed.spread == pytest.approx(max(FLOOR, 2 * worst))
