"""Who is told how long work goes: a bar on a terminal, the parent of a child process, or nobody."""

from __future__ import annotations

from typing import Protocol


class ProgressListener(Protocol):
    """Is told of each phase as it begins, and how far it is."""

    def phase(self, name: str) -> None: ...

    def progress(self, done: int, total: int) -> None: ...


class Unheard:
    """Nobody is told."""

    def phase(self, name: str) -> None:
        pass

    def progress(self, done: int, total: int) -> None:
        pass


UNHEARD = Unheard()
