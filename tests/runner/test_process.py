"""How a child's end is told."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from tuneoff.errors import (
    CheckFailedError,
    InterruptedRunError,
    Problem,
    RecipeError,
    TuneoffError,
    WriteError,
    error_classes,
)
from tuneoff.runner import process
from tuneoff.runner.child import _classify
from tuneoff.runner.events import Event, Reporter, as_error, parse_event
from tuneoff.runner.process import Child
from tuneoff.train.loop import NotANumberError


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


def across_the_border(error: TuneoffError) -> TuneoffError:
    stream = io.StringIO()
    Reporter(stream).error(error)
    event = parse_event(stream.getvalue())
    assert event is not None
    return as_error(event)


@pytest.mark.parametrize("name", sorted(error_classes()))
def test_every_error_of_the_tree_crosses_the_border_as_itself(name: str) -> None:
    found = error_classes()[name]
    error: TuneoffError = found("a: → b\nc")
    if issubclass(found, RecipeError):
        error = found([Problem(("arms", "x.y", "r"), "wrong"), Problem((), "all wrong")])
    again = across_the_border(error)
    assert (type(again), str(again)) == (found, str(error))
    if isinstance(error, RecipeError):
        assert isinstance(again, RecipeError) and again.problems == error.problems


def test_an_error_without_words_of_its_own_and_an_unknown_one_cross_it() -> None:
    assert str(across_the_border(InterruptedRunError())) == str(InterruptedRunError())
    assert type(as_error(Event("error", "x", error="NoSuchError"))) is TuneoffError


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory"),
        (NotANumberError("the gradient's norm is nan"), "not a number"),
        (KeyError("x"), "exception"),
        (CheckFailedError("the loss differs"), "check"),
        (OSError(28, "No space left on device"), "disk"),
        (OSError(30, "Read-only file system"), "disk"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "disk"),
        (OSError(2, "No such file or directory"), "exception"),
    ],
)
def test_exceptions_are_told_apart(error: Exception, kind: str) -> None:
    assert _classify(error)[0] == kind


def test_what_a_check_found_is_told_whole_in_one_line() -> None:
    assert _classify(CheckFailedError("the loss is 2,\nwhere it must be 1"))[1] == "the loss is 2, where it must be 1"


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


def listened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, stops: int) -> tuple[process.Ended, float]:
    """How a child ends that runs `code` and is asked to stop so often once it says that it is ready; and after what."""
    script = tmp_path / "child.py"
    script.write_text(code)
    monkeypatch.setattr(process, "ENTRY", [str(script)])
    monkeypatch.setattr(process, "GRACE", 0.3)
    child = Child([], tmp_path / "log.txt")
    began = time.monotonic()

    def tell(event: Event) -> None:
        nonlocal began
        began = time.monotonic()
        for _ in range(stops):
            child.stop()

    ended = child.listen(tell)
    return ended, time.monotonic() - began


READY = """
import os, signal, sys, time
from tuneoff.runner.events import Reporter
from tuneoff.runner.stop import STOPPED, Stop
stop = Stop()
stop.listen()
with stop.kept_for_safe_points():
    Reporter(sys.stdout).phase("ready")
    {work}
    while not stop.asked:
        time.sleep(0.01)
    {more}
    sys.stdout.flush()
    os._exit(STOPPED if stop.asked else 1)
"""


def test_a_child_that_is_asked_stops_at_its_next_safe_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = tmp_path / "saved"
    code = READY.format(work="pass", more=f"time.sleep(0.5); open({str(saved)!r}, 'w').close()")
    ended, _ = listened(tmp_path, monkeypatch, code, stops=1)
    assert ended == process.Ended(stopped=True) and saved.exists()


def test_sigterm_to_parent_and_child_alike_is_one_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd sends it to every process of a service."""
    saved = tmp_path / "saved"
    code = READY.format(
        work="os.kill(os.getpid(), signal.SIGTERM); os.kill(os.getpid(), signal.SIGTERM)",
        more=f"time.sleep(0.5); open({str(saved)!r}, 'w').close()",
    )
    ended, _ = listened(tmp_path, monkeypatch, code, stops=1)
    assert ended == process.Ended(stopped=True) and saved.exists()


def test_a_child_that_is_asked_twice_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, seconds = listened(tmp_path, monkeypatch, READY.format(work="time.sleep(60)", more="pass"), stops=2)
    assert ended == process.Ended(stopped=True) and seconds < 5


def test_a_child_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hung = "Reporter(sys.stdout).phase('x'); os.kill(os.getpid(), signal.SIGSTOP)"
    ended, seconds = listened(tmp_path, monkeypatch, READY.format(work=hung, more="pass"), stops=1)
    assert ended == process.Ended(stopped=True) and seconds < 5


def test_a_child_that_cannot_even_be_killed_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InterruptedRunError):
        listened(tmp_path, monkeypatch, READY.format(work="time.sleep(3)", more="pass"), stops=3)


def test_a_folder_in_the_place_of_its_log_is_told(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"cannot be written \(Is a directory\)"):
        Child([], tmp_path)
