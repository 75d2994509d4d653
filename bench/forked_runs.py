"""A run whose processes are forks of this one, and ways to kill it. Linux only.

Parents and children are forked from this process, which has loaded the libraries, so that a run of a tiny model takes
seconds. Nothing of tuneoff is replaced but the start of a process.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import datasets  # noqa: F401  every library that a child needs, loaded once
import rouge_score.rouge_scorer  # noqa: F401

from tuneoff.errors import InterruptedRunError
from tuneoff.folder import RunFolder
from tuneoff.recipe import Recipe
from tuneoff.runner import child, process
from tuneoff.runner.events import Reporter
from tuneoff.runner.run import Run

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.symlink", "os.link")
LONGEST = 400.0  # seconds of a run, after which it is taken to hang: a busy machine is slow
AT_CHANGE = ("change", "change, both")  # the child alone is killed, or its parent, too
AFTER_SECONDS = ("child", "parent", "both", "SIGTERM", "Ctrl-C twice")


class Forked:
    """Stands for `subprocess.Popen`: the child is a fork of this process, and does the same work."""

    started = 0  # children of this run's parent so far

    def __init__(self, command: list[str], *, stderr: Any, **_: Any) -> None:
        given, own_input = os.pipe()
        own_output, told = os.pipe()
        os.set_inheritable(told, True)
        self.returncode: int | None = None
        Forked.started += 1
        self.pid = os.fork()
        if not self.pid:
            os.close(own_input)
            os.close(own_output)
            _begin_child(command[1 + len(process.ENTRY) :], given, told, stderr.fileno())
        os.close(given)
        os.close(told)
        self.stdin, self.stdout = os.fdopen(own_input, "w"), os.fdopen(own_output)

    def poll(self) -> int | None:
        if self.returncode is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if found else None
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


class Subprocess:
    """Stands for `subprocess` in a parent."""

    Popen, PIPE = Forked, subprocess.PIPE


def _begin_child(work: list[str], given: int, told: int, log: int) -> None:
    """What `python -m tuneoff.runner.child` does, in a process that has just been forked. Never returns."""
    status = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(given, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        which, change, parent = map(int, os.environ.get("KILL_AT", "0 0 0").split())
        changes = Changes(change if which == Forked.started else 0, os.getppid() if parent else None)
        reporter = Reporter(os.fdopen(told, "w"))  # held to the end: its closing tells the parent that we have ended
        status = child.main(work, reporter)
        if "TALLY" in os.environ:
            with Path(os.environ["TALLY"]).open("a") as file:
                file.write(f"{changes.made}\n")
    finally:
        os._exit(status)


class Changes:
    """Counts the changes that this process makes to the disk, and dies by SIGKILL right before one (0: before none).

    The process `parent` is killed first, if it is given.
    """

    def __init__(self, fatal: int, parent: int | None) -> None:
        self.made, self._fatal, self._parent = 0, fatal, parent
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in CHANGES:
            self.made += 1
            if self.made == self._fatal:
                if self._parent is not None:
                    os.kill(self._parent, signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)


class Quiet:
    """Listens to a run, and tells nobody."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        return lambda *_, **__: None


def begin(recipe: Recipe, folder: Path) -> int:
    """Carry out the run in a fork, which is its parent. Returns the fork's process."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        process.subprocess = Subprocess()  # type: ignore[assignment]
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        status = 0 if Run(recipe, RunFolder(folder), Quiet(), True).carry_out() else 1  # type: ignore[arg-type]
    except InterruptedRunError:
        status = 130
    except BaseException as error:
        (folder.parent / f"{folder.name}.error").write_text(f"{type(error).__name__}: {error}")
    finally:
        os._exit(status)


@dataclass(frozen=True)
class Kill:
    """`kind`, and when: at a change to the disk of one of the run's children (by their numbers), or after seconds."""

    kind: str
    child: int = 0
    change: int = 0
    after: float = 0.0


def kill(recipe: Recipe, folder: Path, how: Kill) -> bool:
    """Let the run go on, kill it so, and wait until all of its processes are gone. Returns whether it was hit."""
    if how.kind in AT_CHANGE:
        os.environ["KILL_AT"] = f"{how.child} {how.change} {int(how.kind != 'change')}"
    try:
        parent = begin(recipe, folder)
    finally:
        os.environ.pop("KILL_AT", None)
    if how.kind not in AT_CHANGE:
        until = time.monotonic() + how.after
        while time.monotonic() < until:
            if os.waitid(os.P_PID, parent, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return exit_status(parent) != 0
            time.sleep(0.005)
        _send(parent, how.kind)
    return exit_status(parent) != 0


def _send(parent: int, kind: str) -> None:
    with suppress(ProcessLookupError):
        if kind in ("parent", "both"):
            os.kill(parent, signal.SIGKILL)
        if kind in ("child", "both"):
            for number in _children(parent) + [n for n in _children(os.getpid()) if n != parent]:
                os.kill(number, signal.SIGKILL)
        if kind in ("SIGTERM", "Ctrl-C twice"):
            os.kill(parent, signal.SIGTERM if kind == "SIGTERM" else signal.SIGINT)
        if kind == "Ctrl-C twice":
            time.sleep(0.01)
            os.kill(parent, signal.SIGINT)


def _children(parent: int) -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except OSError:
        return []


def be_ready() -> None:
    """Make forks quick, and this process the parent of the children of a run whose own parent has died (Linux)."""
    gc.collect()
    gc.freeze()  # or every fork would go through, and copy, all objects of the libraries
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def exit_status(parent: int) -> int:
    """That of a run, when all of its processes are gone. Raises TimeoutError for one that hangs."""
    until, status = time.monotonic() + LONGEST, 0
    while time.monotonic() < until:
        try:
            found, ended = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if found == parent:
            status = os.waitstatus_to_exitcode(ended)
        elif not found:
            time.sleep(0.005)
    for number in _children(os.getpid()):
        os.kill(number, signal.SIGKILL)
    raise TimeoutError(f"the run did not end within {LONGEST:g} seconds")
