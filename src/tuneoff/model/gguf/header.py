"""What a GGUF file says of itself, and what is refused by that alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tuneoff.errors import ModelError, first_line
from tuneoff.records import GgufFile

MAGIC = b"GGUF"


def read_header(reader: Any, path: Path, sha256: str) -> GgufFile:
    """What the file at `path` says of itself, opened by `open_gguf`. `sha256` is the hash of its name and content.

    Raises ModelError where the file is a part of several.
    """
    if (value(reader, "split.count") or 1) > 1:
        raise ModelError(f"{path} is one of {value(reader, 'split.count')} parts: a GGUF in several files is not read")
    types: Counter[str] = Counter()
    for tensor in reader.tensors:
        types[tensor.tensor_type.name] += int(tensor.n_elements)
    return GgufFile(
        file=path.name,
        sha256=sha256,
        architecture=value(reader, "general.architecture"),
        file_type=_file_type(value(reader, "general.file_type"), types),
        types=dict(types),
        license=value(reader, "general.license"),
        warnings=[],
    )


def open_gguf(path: Path) -> Any:
    """The file by the package `gguf`: `fields` and `tensors`, whose weights are read when they are asked for.

    Raises ModelError where it is no GGUF, damaged or without a model.
    """
    from gguf import GGUFReader

    try:
        with path.open("rb") as file:
            found = file.read(len(MAGIC))
        if found != MAGIC:
            raise ModelError(f"{path} is no GGUF file: it begins with {found!r}, not {MAGIC!r}")
        reader = GGUFReader(path)
    except ModelError:
        raise
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})") from None
    except Exception as error:  # of numpy and struct, whatever the place that is damaged
        raise ModelError(f"{path} is a damaged GGUF file, or one cut short ({first_line(error)})") from error
    if not reader.tensors or value(reader, "general.architecture") is None:
        raise ModelError(f"{path} is a GGUF file without a model: it holds {len(reader.tensors)} tensors")
    return reader


def value(reader: Any, key: str) -> Any:
    """A value of the file's metadata that is no list; None where it has none of this name."""
    field = reader.fields.get(key)
    return field.contents() if field is not None else None


def _file_type(number: int | None, types: Counter[str]) -> str:
    """The name of `general.file_type`; that of the type that holds most weights where the file does not say."""
    from gguf import LlamaFileType

    try:
        named = LlamaFileType(number) if number is not None else LlamaFileType.GUESSED
    except ValueError:  # newer than the package
        named = LlamaFileType.GUESSED
    if named == LlamaFileType.GUESSED:
        return types.most_common(1)[0][0]
    return named.name.removeprefix("MOSTLY_").removeprefix("ALL_")
