"""Commands on runs of which a file is damaged: a selection of bench/damage.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DAMAGE = Path(__file__).parents[2] / "bench" / "damage.py"


@pytest.mark.timeout(900)
@pytest.mark.skipif(not hasattr(os, "fork") or not Path("/proc/self").exists(), reason="forks, and looks for children")
def test_no_damage_ends_in_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            str(DAMAGE),
            "--tries",
            "24",
            "--seconds",
            "100000",
            "--seed",
            "3",
            "--cache",
            os.environ["XDG_CACHE_HOME"],
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert done.stdout.startswith("24 tries\n")
