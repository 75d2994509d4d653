"""What is large is not begun where its disk has no room, and a disk that fills is told in one line."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset

from tuneoff.data.tokens import Tokenization
from tuneoff.errors import WriteError
from tuneoff.model.saved import save_whole
from tuneoff.room import room_for
from tuneoff.train import checkpoints
from tuneoff.train.checkpoints import Position

Usage = namedtuple("Usage", "total used free")
MIB = 2**20


@pytest.fixture
def nearly_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk of which 3 MiB are free."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 3 * MIB))


def model_of(mebibytes: int) -> torch.nn.Module:
    return torch.nn.Linear(mebibytes * MIB // 4, 1, bias=False)


@pytest.mark.usefixtures("nearly_full")
def test_what_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    said = r" cannot be written \(No space left on device\): it needs at least 5 MiB, and 3 MiB are free\."
    with pytest.raises(WriteError, match=rf"^{tmp_path}/a/model{said}$"):
        save_whole(model_of(5), SimpleNamespace(), tmp_path / "a" / "model")
    with pytest.raises(WriteError, match=rf"^{tmp_path}/b/checkpoint-7{said}$"):
        checkpoints.save(tmp_path / "b", Position(7, 0.0, []), model_of(5), SimpleNamespace(), SimpleNamespace())
    tokens = Dataset.from_dict({"input_ids": [[1] * (5 * MIB // 4)]})
    with pytest.raises(WriteError, match=rf"^{tmp_path}/tokens{said} Make room there, or set XDG_CACHE_HOME"):
        Tokenization._keep(tokens, {}, tmp_path / "tokens")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.usefixtures("nearly_full")
def test_a_disk_that_fills_meanwhile_is_told_with_the_place_that_is_full(tmp_path: Path) -> None:
    def fills(place: Path | None) -> None:
        with room_for(tmp_path / "to", MIB):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place) if place else None)

    here = r"to cannot be written \(No space left on device\): it needs at least 1 MiB, and 3 MiB are free\.$"
    for place in (None, tmp_path / "to" / "part", tmp_path / ".to.half"):
        with pytest.raises(WriteError, match=here):
            fills(place)
    with pytest.raises(WriteError, match=r"^/elsewhere/x cannot be written \(No space left on device\)$"):
        fills(Path("/elsewhere/x"))


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), room_for(tmp_path / "to", 1):
        raise PermissionError(errno.EACCES, "no")
