"""The parent's side of a child process: start it, listen to it, stop it, and tell how it ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tuneoff.errors import InterruptedRunError, TuneoffError, WriteError
from tuneoff.records import Failure, FailureKind
from tuneoff.runner.child import FAILED, FINISHED, MISTAKE
from tuneoff.runner.events import Event, as_error, parse_event
from tuneoff.runner.stop import STOPPED

ENTRY = ["-P", "-m", "tuneoff.runner.child"]  # -P: nothing is imported from where the user stands
GRACE = 3.0  # seconds that a child has to end, once it was asked to end at once
LOG_TAIL = 4000  # characters of the log that a failure keeps

# Where the user has not said otherwise: a thread that waits for others sleeps. libgomp's spin by default, and where
# another program wants the CPU, all threads then wait for the one that lost it (docs/benchmarks.md).
CHILD_DEFAULTS = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
CHILD_ENVIRONMENT = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # they would fill the log that a failure shows
    "TOKENIZERS_PARALLELISM": "false",  # no thread pool of its own beside torch's
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",  # events and the log are UTF-8, whatever the locale
    "PYTHONIOENCODING": "utf-8",
}


@dataclass(frozen=True)
class Ended:
    """How a child ended: stopped on request, failed, the user's mistake, or (none of these) finished."""

    stopped: bool = False
    failure: Failure | None = None
    mistake: TuneoffError | None = None


class Child:
    """A child process that carries out one part of a run. Raises WriteError where its log cannot be written."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self._log = log
        self._asked, self._killed = 0, False
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            errors = log.open("a", encoding="utf-8")
        except OSError as error:
            raise WriteError(f"{log} cannot be written ({error.strerror})") from None
        self._kills_before = _kills_by_the_system()
        with errors:
            self._process = subprocess.Popen(
                [sys.executable, *ENTRY, *arguments],
                stdin=subprocess.PIPE,  # what a request to stop is written to; its closing tells that we are gone
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**CHILD_DEFAULTS, **os.environ, **CHILD_ENVIRONMENT},
                start_new_session=True,  # Ctrl-C reaches us alone, and we ask the child to stop
                text=True,
                encoding="utf-8",
            )

    def listen(self, tell: Callable[[Event], None]) -> Ended:
        """Pass on what the child tells until it has ended, and say how it ended."""
        last: Event | None = None
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        with process.stdin, process.stdout:
            for line in process.stdout:
                event = parse_event(line)
                if event is not None:
                    last = event
                    tell(event)
        return self._ended(process.wait(), last)

    def stop(self) -> None:
        """Ask the child to stop at its next safe point. Asked again, it ends at once, and is killed where it does not.

        One that does not even end then (it waits for a file server that is gone, say) is left behind the third time:
        raises InterruptedRunError.
        """
        self._asked += 1
        if self._asked > 2:
            self._kill()
            raise InterruptedRunError
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):  # it has ended meanwhile
            os.write(self._process.stdin.fileno(), b"\n")
        if self._asked == 2:
            timer = threading.Timer(GRACE, self._kill)
            timer.daemon = True
            timer.start()

    def _kill(self) -> None:
        if self._process.poll() is None:
            self._killed = True
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _ended(self, status: int, last: Event | None) -> Ended:
        if self._killed:
            return Ended(stopped=True)
        if status == FINISHED:
            return Ended()
        if status == STOPPED:
            return Ended(stopped=True)
        if status == MISTAKE and last is not None and last.kind == "error":
            return Ended(mistake=as_error(last))
        kind, message = self._cause(status, last)
        log = self._log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:]
        return Ended(failure=Failure(kind=kind, message=message, log=log))

    def _cause(self, status: int, last: Event | None) -> tuple[FailureKind, str]:
        if status == FAILED and last is not None and last.kind == "failure":
            return last.failure, last.text
        if status >= 0:
            return "exit", f"ended with status {status}"
        name = signal.Signals(-status).name
        if _kills_by_the_system() > self._kills_before:
            return "out of memory", f"killed by the system for want of memory ({name})"
        return "signal", f"killed by {name}"


def _kills_by_the_system() -> int:
    """How many processes the kernel has killed for want of memory since it started (Linux)."""
    try:
        found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0
