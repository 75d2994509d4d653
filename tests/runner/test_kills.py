"""Runs that are killed, however and whenever, are bitwise those that are not: a selection of bench/kills.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = Path(__file__).parents[2] / "bench" / "kills.py"


@pytest.mark.timeout(900)
@pytest.mark.skipif(not hasattr(os, "fork") or not Path("/proc/self").exists(), reason="forks, and looks for children")
def test_kills_leave_what_an_undisturbed_run_leaves(tmp_path: Path) -> None:
    counts = tmp_path / "counts.json"
    options = ["--kills", "60", "--seed", "1", "--cache", os.environ["XDG_CACHE_HOME"], "--json", str(counts)]
    done = subprocess.run(
        [sys.executable, str(KILLS), *options],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    found = json.loads(counts.read_text())
    assert sum(found["kills"].values()) >= 60
    assert set(found["runs"]) == {"t5", "llama", "adalora", "tune", "seeds"}
    assert found["differed"] == []
