"""The hash of a large original model is kept while nothing in its folder changes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tuneoff.data import contents
from tuneoff.data.contents import hash_base, hash_model


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder that counts as large, in a cache of its own."""
    monkeypatch.setattr(contents, "KEPT_FROM", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(1000))
    return folder


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were read."""
    read, real = [], contents._hash

    def noted(folder: Path, *rest: Any) -> str:
        read.append(folder)
        return real(folder, *rest)

    monkeypatch.setattr(contents, "_hash", noted)
    return read


def ask(folder: Path) -> str:
    return hash_base(folder, lambda *_: None)


def test_an_unchanged_model_is_read_once(folder: Path, readings: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "QUIET_SECONDS", -1.0)
    assert ask(folder) == ask(folder) == ask(folder)
    assert len(readings) == 1
    assert ask(folder) == hash_model(folder)


def test_a_change_is_noticed_even_where_size_and_time_are_put_back(
    folder: Path, readings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "QUIET_SECONDS", -1.0)
    before, weights = ask(folder), folder / "model.safetensors"
    found = weights.stat()
    time.sleep(0.05)  # longer than a tick of the file system's clock
    with weights.open("r+b") as file:
        file.write(b"\1")
    os.utime(weights, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert ask(folder) != before
    assert len(readings) == 2


def test_what_has_just_been_written_is_read_again(folder: Path, readings: list[Path]) -> None:
    ask(folder), ask(folder)
    assert len(readings) == 2


def test_small_models_are_always_read(folder: Path, readings: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "QUIET_SECONDS", -1.0)
    monkeypatch.setattr(contents, "KEPT_FROM", 10_000)
    ask(folder), ask(folder)
    assert len(readings) == 2


def test_a_damaged_record_or_a_cache_that_cannot_be_written_costs_a_reading(
    folder: Path, readings: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(contents, "QUIET_SECONDS", -1.0)
    found = ask(folder)
    (record,) = (tmp_path / "cache" / "tuneoff" / "hashes").iterdir()
    record.write_text("{")
    assert ask(folder) == ask(folder) == found
    assert len(readings) == 2
    monkeypatch.setattr(contents, "cache_folder", lambda _: Path("/proc/self/nowhere"))
    assert ask(folder) == found
    assert len(readings) == 3
