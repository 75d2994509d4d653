"""How a child's end is told."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tuneoff.errors import Problem, RecipeError, TuneoffError
from tuneoff.runner import process
from tuneoff.runner.child import _classify
from tuneoff.runner.events import Event, Reporter, as_error, parse_event
from tuneoff.runner.process import Child
from tuneoff.train.trainer import NotANumberError


def test_what_a_reporter_writes_is_read_back() -> None:
    stream = io.StringIO()
    reporter = Reporter(stream)
    reporter.phase("train")
    reporter.progress(3, 10, 2.5)
    reporter.progress(4, 10, 2.4)  # too soon to show
    reporter.progress(10, 10, 2.0)  # the last is always told
    reporter.failure("out of memory", "bad_alloc")
    events = [parse_event(line) for line in stream.getvalue().splitlines()]
    assert [(e.kind, e.text, e.done) for e in events if e] == [
        ("phase", "train", 0), ("progress", "", 3), ("progress", "", 10), ("failure", "bad_alloc", 0),
    ]  # fmt: skip
    assert parse_event("Epoch 1: 30%") is None
    assert parse_event('{"a": 1}') is None


def test_mistakes_cross_the_border_with_their_places() -> None:
    for error in (RecipeError([Problem(("arms", "x", "r"), "wrong")]), TuneoffError("no such file")):
        stream = io.StringIO()
        Reporter(stream).error(error)
        event = parse_event(stream.getvalue())
        assert event is not None
        again = as_error(event)
        assert (str(again), isinstance(again, RecipeError)) == (str(error), isinstance(error, RecipeError))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (NotANumberError("the gradient's norm is nan"), "not a number"),
        (KeyError("x"), "exception"),
    ],
)
def test_exceptions_are_told_apart(error: Exception, kind: str) -> None:
    assert _classify(error)[0] == kind


def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, kills: int = 0) -> process.Ended:
    """How a child that runs `code` in place of its work is told to have ended."""
    script = tmp_path / "child.py"
    script.write_text(code)
    monkeypatch.setattr(process, "ENTRY", [str(script)])
    counts = iter([0, kills])
    monkeypatch.setattr(process, "_kills_by_the_system", lambda: next(counts))
    return Child([], tmp_path / "log.txt").listen(lambda event: None)


def test_every_end_of_a_child_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    die = "import os, signal; print('working', file=__import__('sys').stderr, flush=True); os.kill(os.getpid(), 9)"
    killed = ended(tmp_path, monkeypatch, die).failure
    assert killed is not None
    assert (killed.kind, killed.message, killed.log) == ("signal", "killed by SIGKILL", "working\n")
    starved = ended(tmp_path, monkeypatch, die, kills=1).failure
    assert starved is not None
    assert starved.kind == "out of memory"
    left = ended(tmp_path, monkeypatch, "raise SystemExit(9)").failure
    assert left is not None
    assert (left.kind, left.message) == ("exit", "ended with status 9")
    silent = ended(tmp_path, monkeypatch, "raise SystemExit(2)").failure  # status 2, but no mistake told
    assert silent is not None
    assert ended(tmp_path, monkeypatch, "raise SystemExit(75)") == process.Ended(stopped=True)
    assert ended(tmp_path, monkeypatch, "pass") == process.Ended()
    assert Event("phase").problems == ()
