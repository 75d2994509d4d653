"""A run's folder: the one place that knows its paths, and that writes files and folders whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneoff.errors import RunBusyError, RunFolderError, WriteError, nearest

# The first line of a run's recipe.yaml, by which it is told from a user's own file of that name.
RECIPE_MARK = "# The recipe of this run, with every default filled in and local paths absolute.\n"


def write_whole(path: Path, content: str | bytes) -> None:
    """Write `content` to `path` so that a reader, or a crash, sees the old file or the new one. Raises WriteError."""
    try:
        if isinstance(content, str):
            # A path that is no text in this process's encoding is written as the bytes that it is, if these are UTF-8.
            content = content.encode("utf-8", errors="surrogateescape")
            content.decode("utf-8")
        _write_whole(path, content)
    except UnicodeDecodeError as error:
        raise WriteError(f"{path} cannot be written: it would hold {error.object[error.start]:#x}, no UTF-8") from None
    except OSError as error:
        raise WriteError(f"{path} cannot be written ({error.strerror or error})") from None


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes it private; a run's folder is to be shared
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON, written whole."""
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """One JSON value a line, written whole."""
    lines = [json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n" for value in values]
    write_whole(path, "".join(lines))


@contextmanager
def folder_written_whole(path: Path) -> Iterator[Path]:
    """A new folder for the block to fill, which becomes `path` once all of it is on the disk.

    A reader, or a crash, sees the new folder whole or not at all. An older `path` is removed right before; where the
    block raises, it stays, and nothing of the new folder is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        for inner in temporary.rglob("*"):
            if inner.is_dir():
                sync_folder(inner)
            else:
                with inner.open("rb") as file:
                    os.fsync(file.fileno())
        sync_folder(temporary)
        temporary.chmod(0o755)  # mkdtemp makes it private; a run's folder is to be shared
        shutil.rmtree(path, ignore_errors=True)
        temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable, where the system can (POSIX)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def has_mark(recipe: Path) -> bool:
    """Whether tuneoff has written this recipe.yaml. One of an older tuneoff has no mark."""
    try:
        with recipe.open("rb") as file:
            return file.read(len(RECIPE_MARK)) == RECIPE_MARK.encode()
    except OSError:
        return False


def require_no_strangers(folder: Path, is_own: Callable[[str], bool] = lambda _: False) -> None:
    """Raise RunFolderError where `folder` holds files by other names than `is_own` knows. Hidden ones do not count."""
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder} is a file: choose another folder with --out")
    names = [path.name for path in _inside(folder) if not path.name.startswith(".")]
    strangers = [name for name in names if not is_own(name)]
    if strangers:
        shown = ", ".join(strangers[:3]) + (", …" if len(strangers) > 3 else "")
        raise RunFolderError(f"{folder} holds other files ({shown}). Choose a new or an empty folder with --out.")


def _inside(folder: Path) -> list[Path]:
    """What lies in a folder; nothing where it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


@dataclass(frozen=True)
class TrialFolder:
    """Where one trial keeps what it leaves: `trials/ARM/seed-N/`."""

    path: Path

    @property
    def name(self) -> str:
        """`ARM-seed-N`: what a tracker calls this trial."""
        return f"{self.path.parent.name}-{self.path.name}"

    @property
    def trackers(self) -> Path:
        """Where a tracker that writes files (TensorBoard) writes them."""
        return self.path / "trackers"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def tried(self) -> Path:
        """What a try of a learning rate gave."""
        return self.path / "try.json"

    @property
    def validation(self) -> Path:
        """The loss of a try on each example of the validation split."""
        return self.path / "validation.jsonl"

    @property
    def trained(self) -> Path:
        """What training measured: there once the model is saved, so that it is not trained twice."""
        return self.path / "trained.json"

    @property
    def step_memory(self) -> Path:
        """The memory of the first training step."""
        return self.path / "step-memory.json"

    @property
    def checks(self) -> Path:
        """What the trial checked on itself at its first steps."""
        return self.path / "checks.json"

    @property
    def history(self) -> Path:
        return self.path / "history.jsonl"

    @property
    def step_times(self) -> Path:
        """The seconds of each optimizer step."""
        return self.path / "step-times.jsonl"

    @property
    def batch_times(self) -> Path:
        """The seconds of each batch of generation."""
        return self.path / "batch-times.jsonl"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.jsonl"

    @property
    def diagnosis(self) -> Path:
        """What training did to the weights."""
        return self.path / "diagnosis.json"

    @property
    def losses(self) -> Path:
        """Losses of the model with its update as it is, scaled, and cut to low ranks."""
        return self.path / "losses.json"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def start(self) -> Path:
        """The adapter as it starts, where it cannot be saved without (model.saved.save_start)."""
        return self.path / "start"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run: the contract between processes, readable without this program."""

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def resolved(self) -> Path:
        """All that a trial runs by: the recipe with nothing open. Trials read this file and no other."""
        return self.path / "resolved.json"

    @property
    def plan(self) -> Path:
        """What the run was predicted to take."""
        return self.path / "plan.json"

    @property
    def progress(self) -> Path:
        """How far the run is, for those who watch it."""
        return self.path / "progress.json"

    @property
    def base(self) -> Path:
        """The original model with its tokenizer, where the recipe builds one of random weights."""
        return self.path / "base"

    @property
    def prepare_log(self) -> Path:
        return self.path / "prepare.log"

    @property
    def diagnose_log(self) -> Path:
        return self.path / "diagnose.log"

    @property
    def comparison(self) -> Path:
        return self.path / "comparison.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def tuning(self, arm: str) -> Path:
        """The record of an arm's search for its learning rate."""
        return self.path / "trials" / arm / "tuning.json"

    def rate(self, arm: str, learning_rate: float, rung: int | None = None) -> TrialFolder:
        """Where one rate of that search is tried, in a rung of a successive halving (None: there is none)."""
        of_rung = "" if rung is None else f"-rung-{rung}"
        return TrialFolder(self.path / "trials" / arm / f"try-{learning_rate:g}{of_rung}")

    def trial(self, arm: str, seed: int) -> TrialFolder:
        return TrialFolder(self.path / "trials" / arm / f"seed-{seed}")

    @property
    def is_run(self) -> bool:
        return self.recipe.is_file() or self.resolved.is_file()

    def require(self) -> None:
        """Raise RunFolderError unless this is the folder of a run. Names the runs that lie beside it."""
        if not self.is_run:
            raise RunFolderError(f"{self.path} holds no run; {self._near()}")

    def _near(self) -> str:
        """The run in or beside this folder whose name is nearest, or those that there are."""
        runs = [
            str(path) for folder in (self.path, self.path.parent) for path in _inside(folder) if RunFolder(path).is_run
        ]
        if not runs:
            return "there is none beside it, either."
        return nearest(str(self.path), runs)

    def require_own_or_empty(self) -> None:
        """Raise RunFolderError where the folder holds files that are no run's, beside which none is to be written."""
        if not self.resolved.is_file() and not self.prepare_log.is_file() and not has_mark(self.recipe):
            require_no_strangers(self.path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold this run alone. The system releases the lock when the process dies, however it dies.

        Raises RunBusyError where another process holds it, RunFolderError where it cannot be made.
        """
        from filelock import FileLock, Timeout

        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / ".lock")
            lock.acquire(timeout=0)
        except Timeout:
            raise RunBusyError(
                f"{self.path}: another tuneoff is at work on this run. "
                "Wait for it, or choose another folder with --out."
            ) from None
        except OSError as error:
            raise RunFolderError(f"{self.path}: cannot write there ({error.strerror}).") from None
        try:
            yield
        finally:
            lock.release()
