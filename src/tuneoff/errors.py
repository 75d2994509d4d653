"""Every error that a user can cause, and its one line.

    TuneoffError
    ├── RecipeError             a recipe that cannot be carried out: all of its problems at once
    ├── DataError               a source, split, column or row that cannot be read
    ├── ModelError              a model, tokenizer or method that cannot be loaded or built
    ├── DoesNotFitError         an arm that is predicted to need more memory than there is
    ├── CheckFailedError        a trial's own check found that it does not compute what it should
    ├── CacheError              no folder that intermediate results could be kept in
    ├── AddressError            a port of this machine that cannot be served on
    ├── ExportError             an arm that cannot be exported so, or an export that does not write what its trial wrote
    ├── WriteError              a file that cannot be written: no space, no permission, a read-only file system
    ├── NoSpaceError            a run that is predicted to need more space on the disk than there is
    ├── RunFolderError          a folder that is no run, or cannot be used now
    │   ├── RunBusyError        another process is at work on this run
    │   ├── RecipeChangedError  the folder holds a run of another recipe, or of another model or other data
    │   ├── ForeignResultError  the folder holds a result of another run
    │   └── DamagedFileError    a file of the folder is missing, or is not what it should be
    │       └── UnreadableFileError     the system does not let it be read, now
    ├── InterruptedRunError     a run that was asked to stop, and can go on
    └── PrepareFailedError      a run whose preparing died of what is no mistake: a bug, or the machine

The command line prints the message and exits with status 2; with 130 where the run was interrupted, with 1 where
preparing died or standard output could not be written. Anything else that escapes is a bug and keeps its traceback. An
error that a child process gives up with is raised by its parent as the same class.
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass

# What the system says where a disk is full, a quota or a limit of a file's size is reached, or nothing may be written.
NO_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


class TuneoffError(Exception):
    """An error with a message for the user: what is wrong, where, and what would be right."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a recipe: `path` into the recipe, and what is wrong there."""

    path: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        where = ".".join(self.path)
        return f"{where}: {self.message}" if where else self.message


class RecipeError(TuneoffError):
    """A recipe that cannot be carried out. Holds every problem found, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class DataError(TuneoffError):
    """A source, split, column or row that cannot be read."""


class ModelError(TuneoffError):
    """A model, tokenizer or method that cannot be loaded or built."""


class MetricError(TuneoffError):
    """A metric that there is not, that cannot be loaded, or that fails on a text."""


class DoesNotFitError(TuneoffError):
    """An arm that is predicted to need more memory than there is."""


class CheckFailedError(TuneoffError):
    """A trial's own check found that it does not compute what it should. The arm fails, and the others go on."""


class ExportError(TuneoffError):
    """An arm that cannot be exported so, or an export that does not write what its trial wrote."""


class AddressError(TuneoffError):
    """A port of this machine that cannot be served on."""


class CacheError(TuneoffError):
    """No folder that intermediate results could be kept in."""


class WriteError(TuneoffError, OSError):
    """A file that cannot be written: no space, no permission, a read-only file system. Nothing of it is left behind."""


class NoSpaceError(TuneoffError):
    """A run that is predicted to need more space on the disk than there is."""


class RunFolderError(TuneoffError):
    """A folder that is no run, or cannot be used now."""


class RunBusyError(RunFolderError):
    """Another process is at work on this run."""


class RecipeChangedError(RunFolderError):
    """The folder holds a run of another recipe, or of another model or other data."""


class ForeignResultError(RunFolderError):
    """The folder holds a result of another run."""


class DamagedFileError(RunFolderError, ValueError):
    """A file of the folder is missing, or is not what it should be."""


class UnreadableFileError(DamagedFileError):
    """A file of the folder that the system does not let be read, now: it may be whole."""


class InterruptedRunError(TuneoffError):
    """The run was asked to stop. What was finished is kept, and the same command goes on."""

    def __init__(self, message: str = "the run was interrupted; the same command goes on with it") -> None:
        super().__init__(message)


class PrepareFailedError(TuneoffError):
    """Preparing failed with what is no mistake of the user: a bug, or the machine. Keeps the end of the child's log."""


def error_classes() -> dict[str, type[TuneoffError]]:
    """Every class of the tree by its name, from the root down."""
    classes: dict[str, type[TuneoffError]] = {}
    waiting: list[type[TuneoffError]] = [TuneoffError]
    while waiting:
        found = waiting.pop()
        classes[found.__name__] = found
        waiting += found.__subclasses__()
    return classes


def disk_trouble(error: BaseException) -> str | None:
    """Why a disk could not be written, where that is what `error` of the system or of a library says."""
    if isinstance(error, OSError) and error.errno in NO_WRITING:
        return os.strerror(error.errno)
    text = str(error)  # libraries that are not written in Python say it in words
    if os.strerror(errno.ENOSPC) in text:
        return os.strerror(errno.ENOSPC)
    said = (number for number in NO_WRITING if f"(os error {number})" in text or f"[Errno {number}]" in text)
    return next(map(os.strerror, said), None)


def first_line(error: BaseException) -> str:
    """The first line of what an error of some library says; its class where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def nearest(word: str, choices: Iterable[str]) -> str:
    """A hint that names the choice closest to `word`, or the choices where none is close."""
    names = sorted(set(choices))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"the choices are: {shown}"
