"""The real command in a process of its own, for tests."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.forked import run_module

TUNEOFF = [sys.executable, "-m", "tuneoff"]


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*TUNEOFF, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip


def tuneoff(*arguments: str | Path, status: int = 0) -> tuple[str, str]:
    """Standard output and error of a command that must end with `status`. It is a fork where `tests.forked` can."""
    ended, out, err = run_module("tuneoff", *arguments)
    assert ended == status, err
    return out, err


def tuneoff_process(*arguments: str | Path) -> None:
    """Carry out a command that must end with 0, in a process of its own that is no fork: so are its children."""
    process = start(*arguments)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err


def write_recipe(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def wait_for(condition: Callable[[], bool], what: str, process: subprocess.Popen[str]) -> None:
    """Wait until `condition` holds while `process` works towards it."""
    for _ in range(3000):
        if condition():
            return
        if process.poll() is not None:
            raise AssertionError(f"no {what}: the command ended with {process.returncode}: {process.communicate()}")
        time.sleep(0.1)
    process.kill()
    raise AssertionError(f"no {what} within five minutes: {process.communicate()}")


def trial_process(parent: subprocess.Popen[str], arm: str) -> psutil.Process | None:
    for child in psutil.Process(parent.pid).children():
        with contextlib.suppress(psutil.Error):  # one that has just ended
            if arm in child.cmdline():
                return child
    return None
