from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tuneoff.errors import RunBusyError, RunFolderError, WriteError
from tuneoff.folder import RunFolder, folder_written_whole, write_json, write_lines, write_whole


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(WriteError, match="it would hold 0xff, no UTF-8"):
        write_whole(path, "\udcff")
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "models" / "model"
    with folder_written_whole(path) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "weights").write_text("first")
        assert not path.exists()
    with pytest.raises(KeyboardInterrupt), folder_written_whole(path) as folder:
        (folder / "weights").write_text("half of the sec")
        raise KeyboardInterrupt
    assert [file.relative_to(path.parent) for file in path.parent.rglob("*")] == [
        Path("model"), Path("model/inner"), Path("model/inner/weights"),
    ]  # fmt: skip
    with folder_written_whole(path) as folder:
        (folder / "weights").write_text("second")
        assert (path / "inner" / "weights").read_text() == "first"
    assert [file.name for file in path.rglob("*")] == ["weights"] and list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o755


def test_lines_hold_any_text(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_lines(path, [{"t": "a\nb\u2028c 🎈"}])
    assert path.read_text(encoding="utf-8").count("\n") == 1


def test_two_processes_cannot_hold_one_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    code = f"""
from pathlib import Path
from tuneoff.folder import RunFolder
with RunFolder(Path({str(folder.path)!r})).lock():
    print("held")
"""
    with folder.lock():
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "RunBusyError" in other.stderr
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout == "held\n"
    with folder.lock(), pytest.raises(RunBusyError, match="another tuneoff"), RunFolder(folder.path).lock():
        pass


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no run"):
        RunFolder(tmp_path).require()
