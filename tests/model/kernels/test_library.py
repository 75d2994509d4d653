"""The compiled library is loaded where it is what was built and tested here; else it costs a few words, and no run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tuneoff.model.kernels import library
from tuneoff.model.kernels.library import Built, KernelError, load
from tuneoff.model.kernels.native import native, why_not_native

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own with a copy of the library that the suite's own cache has. Returns its record."""
    assert native() is not None, why_not_native()
    source = library.cache_folder("kernels")
    key = library._key(Path(str(shutil.which("c++"))))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = library.cache_folder("kernels")
    for path in source.glob(f"operations-{key}*"):
        shutil.copy(path, folder)
    return folder / f"operations-{key}.json"


@pytest.fixture
def building(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building is refused, and so told."""

    def refuse(*_: object) -> Path:
        raise KernelError("building")

    monkeypatch.setattr(library, "_build", refuse)


def kept(record: Path) -> Path:
    return record.parent / str(Built.read(record).library)


def test_what_was_built_is_loaded_again(built: Path, building: None) -> None:
    assert load().squared_norm.argtypes
    assert kept(built).stat().st_mode & 0o777 == 0o600


def _truncated(record: Path) -> None:
    path = kept(record)
    path.write_bytes(path.read_bytes()[:10_000])


def _replaced(record: Path) -> None:
    kept(record).write_bytes(b"another")


def _writable(record: Path) -> None:
    kept(record).chmod(0o666)


def _linked(record: Path) -> None:
    elsewhere = record.parents[1] / "elsewhere.so"
    kept(record).replace(elsewhere)
    elsewhere.chmod(0o666)
    kept(record).symlink_to(elsewhere)


def _without_record(record: Path) -> None:
    record.unlink()


def _damaged_record(record: Path) -> None:
    record.write_text('{"library"')


def _elsewhere(record: Path) -> None:
    found = Built.read(record)
    outside = record.parents[1] / "outside.so"
    kept(record).replace(outside)
    found.model_copy(update={"library": "../outside.so"}).write(record)


@pytest.mark.parametrize(
    "damage", [_truncated, _replaced, _writable, _linked, _without_record, _damaged_record, _elsewhere]
)
def test_what_is_not_what_was_built_is_built_again(built: Path, building: None, damage: Callable[[Path], None]) -> None:
    damage(built)
    with pytest.raises(KernelError, match="building"):
        load()


def test_another_users_library_is_never_loaded(built: Path, building: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its constructor would run in this process."""
    planted, trace = built.parent / "planted.cpp", built.parent / "ran"
    planted.write_text(
        f'#include <cstdio>\n__attribute__((constructor)) void run() {{ std::fclose(std::fopen("{trace}", "w")); }}\n'
    )
    subprocess.run(["c++", "-shared", "-fPIC", str(planted), "-o", str(kept(built))], check=True)
    kept(built).chmod(0o600)
    digest = library.file_sha256(kept(built))
    me = os.getuid()
    monkeypatch.setattr(library, "is_own", lambda found: found.st_uid == me + 1)
    Built.read(built).model_copy(update={"sha256": digest}).write(built)
    with pytest.raises(KernelError, match="building"):
        load()
    assert not trace.exists()


def test_another_processor_has_another_library(built: Path, building: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_processor", lambda: "flags: avx512f")
    with pytest.raises(KernelError, match="building"):
        load()


def test_without_a_compiler_or_a_folder_it_is_told(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "tuneoff" not in str(path) and real(path, mode))
    with pytest.raises(KernelError, match="cannot be written"):
        load()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(KernelError, match=r"no C\+\+ compiler"):
        load()


def compiler(folder: Path, script: str) -> None:
    path = folder / "c++"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_compiler_that_hangs_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(library, "COMPILE_SECONDS", 4)
    compiler(tmp_path, f"sleep 987 & echo $! >> {tmp_path}/started; wait")
    for _ in range(2):
        with pytest.raises(KernelError, match=r"the C\+\+ compiler did not end within 4 seconds"):
            load()
    (started,) = (tmp_path / "started").read_text().split()  # it is not tried again at once
    status = Path(f"/proc/{started}/stat")
    assert not status.exists() or status.read_text().split(")")[1].split()[0] == "Z"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "self-test of the compiled kernels failed"),  # without the functions
        ("__attribute__((constructor)) void run() { __builtin_trap(); }", r"self-test .* failed \(status -4"),
    ],
)
def test_a_library_that_fails_its_test_ends_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    real = shutil.which("c++")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "bad.cpp").write_text(source)
    compiler(tmp_path, f'for made; do :; done; exec {real} -shared -fPIC {tmp_path}/bad.cpp -o "$made"')
    with pytest.raises(KernelError, match=reason):
        load()
    assert not list((tmp_path / "tuneoff/kernels").glob("*.so"))


def test_a_compiler_that_says_done_and_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    compiler(tmp_path, "exit 0")
    with pytest.raises(KernelError, match="made no file"):
        load()
