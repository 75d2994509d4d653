"""What every record is."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from tuneoff.errors import DamagedFileError, UnreadableFileError
from tuneoff.folder import write_json


class Record(BaseModel):
    """A frozen record that reads and writes one JSON file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def read(cls, path: Path) -> Self:
        """The record that `path` holds. Raises DamagedFileError, which says in a line what is wrong with the file."""
        return cls.parse(path, read_text(path))

    @classmethod
    def parse(cls, path: Path, text: str, line: int | None = None) -> Self:
        """The record that `text` of `path` is, or its line of that number. Raises DamagedFileError."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            at = f", line {line}" if line is not None else ""
            raise DamagedFileError(f"{path} is damaged{at} ({first_problem(error)})") from None


def first_problem(error: ValidationError) -> str:
    """The first thing wrong with a value, and where in it."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]


def read_text(path: Path) -> str:
    """The text of a file of a run. Raises DamagedFileError where it is missing or no text, or UnreadableFileError."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DamagedFileError(f"{path} is missing") from None
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DamagedFileError(f"{path} is damaged (it is no text in UTF-8)") from None
