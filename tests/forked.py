"""`python -m MODULE` as a fork of a process that has loaded the libraries, for tests whose subject is no process.

A process of a run imports torch, transformers and peft for ten seconds, and works for one. Here it is forked from a
process of its own that has imported them (`tests.loaded`) and done nothing else: the fork has no thread, no patch and
no memory of the tests. It runs the module as Python does.

Processes are real ones where a platform cannot do this.
"""

from __future__ import annotations

import os
import pickle
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]
POSSIBLE = sys.platform == "linux"
LARGEST = 2**17  # bytes of a request: an environment and the arguments of a command

is_loaded = False  # whether this process is the one that has loaded the libraries, or a fork of it


@dataclass(frozen=True)
class Work:
    """What `python -m MODULE …` is told by its parent."""

    module: str
    arguments: list[str]
    environment: dict[str, str]
    folder: str


class Forked:
    """What is used here of `subprocess.Popen`: a module that runs in a fork, its streams pipes or open files."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        env: Mapping[str, str] | None = None,
    ) -> None:
        read, write = os.pipe()  # its input, which is at its end at once where nobody is to write it
        output, told = os.pipe()
        self._ended, ended = os.pipe()
        work = Work(module, list(arguments), dict(os.environ if env is None else env), str(Path.cwd()))
        given = [read, told if stdout == subprocess.PIPE else stdout.fileno(), stderr.fileno(), ended]
        if is_loaded:
            begin(work, given, not_given=[write, output, self._ended])
        else:
            socket.send_fds(_server(), [pickle.dumps(work)], given)
        for number in (read, told, ended):
            os.close(number)
        self.stdin, self.stdout = os.fdopen(write, "w", encoding="utf-8"), os.fdopen(output, encoding="utf-8")
        if stdin != subprocess.PIPE:
            self.stdin.close()
        self.pid = self._read()
        self.returncode: int | None = None

    def _read(self) -> int:
        return int(os.read(self._ended, 16))

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = self._read()
            os.close(self._ended)
        return self.returncode


class Subprocess:
    """Stands for `subprocess` in a module of tuneoff that starts processes."""

    PIPE = subprocess.PIPE

    @staticmethod
    def Popen(command: list[str], **settings: Any) -> Any:  # noqa: N802
        """A fork, if the command is that of a run's child; else a process."""
        match command:
            case [sys.executable, "-P", "-m", "tuneoff.runner.child", *arguments] if POSSIBLE:
                streams = {name: settings[name] for name in ("stdin", "stdout", "stderr", "env")}
                return Forked("tuneoff.runner.child", arguments, **streams)
        return subprocess.Popen(command, **settings)


def run_module(module: str, *arguments: str | Path) -> tuple[int, str, str]:
    """Exit status, standard output and error of `python -m MODULE …`, which has no input."""
    given = [str(argument) for argument in arguments]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        if POSSIBLE:
            status = Forked(module, given, stdin=subprocess.DEVNULL, stdout=out, stderr=err).wait()
        else:
            command = [sys.executable, "-m", module, *given]
            status = subprocess.call(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=ROOT)
        texts = [file.read().decode() for file in (out, err) if not file.seek(0)]
    return status, texts[0], texts[1]


@cache
def _server() -> socket.socket:
    """The process that has loaded the libraries, of which one is started for this process. It ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "tests.loaded", str(theirs.fileno())]
    subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
    theirs.close()
    return ours


def serve(requests: socket.socket) -> None:
    """Fork for every request, until nobody can send one any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    while True:
        request, given, _, _ = socket.recv_fds(requests, LARGEST, 4)
        if not request:
            return
        begin(pickle.loads(request), given, not_given=[requests.fileno()])
        for number in given:
            os.close(number)
        with suppress(ChildProcessError):  # none is left of those that have ended meanwhile
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def begin(work: Work, given: Sequence[int], not_given: Sequence[int]) -> None:
    """Do the work in a fork of a fork: the first waits for the second, and tells its number and how it ended.

    `given` are standard input, output and error, and where that is told; `not_given` are those of this process's files
    that would keep others waiting if the forks had them.
    """
    if os.fork():
        return
    try:
        for number in not_given:
            os.close(number)
        pid = os.fork()
        if not pid:
            _run(work, given)
        for number in given[:3]:
            os.close(number)
        os.write(given[3], b"%15d\n" % pid)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(given[3], b"%15d\n" % status)
    finally:
        os._exit(0)


def _run(work: Work, given: Sequence[int]) -> NoReturn:
    """What `python -m MODULE …` does in a session of its own, and how it ends."""
    global is_loaded  # noqa: PLW0603
    is_loaded = True
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.chdir(work.folder)
        os.environ.clear()
        os.environ.update(work.environment)
        for place, number in enumerate(given[:3]):
            os.dup2(number, place)
        for number in given:
            os.close(number)
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
        sys.argv = [work.module, *work.arguments]
        if "." in work.module:
            sys.modules.pop(work.module, None)  # it is run anew, as the main module
        runpy.run_module(work.module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(status)
