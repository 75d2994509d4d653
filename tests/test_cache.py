"""The cache: a folder of this user's own, wherever one can be had."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tuneoff.cache import cache_folder
from tuneoff.errors import CacheError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX's")


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache in `cache`, the system's temporary folder in `temporary`."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    return tmp_path


def test_nobody_else_can_write_to_it_whatever_the_umask(places: Path) -> None:
    before = os.umask(0)
    try:
        folder = cache_folder("kernels")
    finally:
        os.umask(before)
    assert folder == places / "cache/tuneoff/kernels"
    assert [path.stat().st_mode & 0o777 for path in (folder, folder.parent)] == [0o700, 0o700]


@pytest.mark.parametrize("writable", ["tuneoff", "tuneoff/kernels"])
def test_a_folder_that_others_can_write_to_is_passed_over(places: Path, writable: str) -> None:
    folder = places / "cache" / writable
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert cache_folder("kernels") == places / f"cache/tuneoff-{os.getuid()}/kernels"


def test_another_users_folder_is_passed_over(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = cache_folder("tokens")
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)  # another user, whose files do not seem to be his own
    with pytest.raises(CacheError, match="Set XDG_CACHE_HOME"):
        cache_folder("tokens")
    monkeypatch.undo()
    assert mine.is_dir()


def test_where_the_cache_cannot_be_made_it_lies_with_the_temporary_files(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (places / "cache").write_text("a file")
    expected = places / f"temporary/tuneoff-{os.getuid()}/tokens"
    assert cache_folder("tokens") == expected
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(places / "cache"))  # is no folder, either
    assert cache_folder("tokens") == expected


def test_a_link_among_the_temporary_files_is_not_followed(places: Path) -> None:
    (places / "cache").write_text("a file")
    (places / "mine").mkdir(mode=0o700)
    (places / f"temporary/tuneoff-{os.getuid()}").symlink_to(places / "mine")
    with pytest.raises(CacheError):
        cache_folder("tokens")


def test_a_read_only_cache_is_passed_over(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (places / "cache").mkdir()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "temporary" in str(path) and real(path, mode))
    assert cache_folder("tokens") == places / f"temporary/tuneoff-{os.getuid()}/tokens"
