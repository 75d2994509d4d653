from __future__ import annotations

import pytest

from tuneoff.measure import clock as module
from tuneoff.measure.clock import Clock


def test_an_inner_phase_pauses_the_outer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    synchronised: list[float] = []
    clock = Clock(lambda: synchronised.append(now[0]))
    with clock.phase("train"):
        now[0] += 5
        with clock.phase("save"):
            now[0] += 2
            assert clock.read("train") == 5
        now[0] += 1
        assert clock.read("train") == 6
    now[0] += 50
    with clock.phase("train"):
        now[0] += 3
    assert clock.seconds == {"train": 9, "save": 2}
    assert 105.0 in synchronised


def test_a_phase_that_fails_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    clock = Clock()
    with pytest.raises(KeyError), clock.phase("load"):
        now[0] += 4
        raise KeyError
    now[0] += 9
    assert clock.read("load") == 4
