"""Runs that are killed, however and whenever, are bitwise those that are not: a selection of bench/kills.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = Path(__file__).parents[2] / "bench" / "kills.py"


@pytest.mark.timeout(900)
@pytest.mark.skipif(not hasattr(os, "fork") or not Path("/proc/self").exists(), reason="forks, and looks for children")
def test_kills_leave_what_an_undisturbed_run_leaves(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            str(KILLS),
            "--kills",
            "6",
            "--cases",
            "t5",
            "adalora",
            "--cache",
            os.environ["XDG_CACHE_HOME"],
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert "runs that left something else than the undisturbed one: 0" in done.stdout
