"""The modules in bench/: each can be imported, and runs nothing when it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[1] / "bench"
IMPORT = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        print(f"{name}: {type(error).__name__}: {error}")
"""


def test_every_module_is_imported_and_runs_nothing(tmp_path: Path) -> None:
    """In one process of its own: a module that used a name that is gone, or ran on import, would say so."""
    names = sorted(path.stem for path in BENCH.glob("*.py"))
    assert "levers" in names
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, str(BENCH), *names],
        check=False, capture_output=True, text=True, cwd=tmp_path, env=env,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]
    assert list(tmp_path.iterdir()) == []
