"""Hashes of what lies in a local model folder, so that a changed byte is noticed where no commit is pinned."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tuneoff.errors import DamagedFileError, ModelError, UnreadableFileError
from tuneoff.records import Resolved, Trained

# What transformers and peft read of a folder: the config and the weights, and what a tokenizer is made of. Weights are
# read from safetensors alone (`model.base.load_model`).
MODEL_FILES = (
    "config.json", "adapter_config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json",
    "*.gguf",
)  # fmt: skip
TOKENIZER_FILES = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model", "*.tiktoken",
    "chat_template*",
)  # fmt: skip
CHUNK = 1 << 23  # bytes read at once


def hash_model(folder: Path, report: Callable[[int, int], None] = lambda *_: None) -> str:
    """The SHA-256 over names and contents of a model folder's config and weights, as hexadecimal digits.

    `report` is told how many mebibytes of how many have been read.
    """
    return _hash(folder, MODEL_FILES, report)


def require_same_model(resolved: Resolved) -> None:
    """Raise ModelError where the original model, or its tokenizer, is another now than when a run began.

    What lies in a folder of this machine is asked; what is of the hub has a commit. Raises UnreadableFileError, too.
    """
    _require_same("model", Path(resolved.model_path), resolved.model_sha256, MODEL_FILES)
    _require_same("tokenizer", Path(resolved.tokenizer_path), resolved.tokenizer_sha256, TOKENIZER_FILES)


def _require_same(what: str, folder: Path, then: str | None, patterns: tuple[str, ...]) -> None:
    now = _hash_now(folder, patterns) if then is not None else None
    if now == then:
        return
    assert then is not None
    if now is None:
        raise ModelError(f"the original {what} of this run is gone: no folder {folder}")
    raise ModelError(f"{folder} holds another {what} than when this run began ({_change(then, now)})")


def require_saved(folder: Path, trained: Trained) -> None:
    """Raise DamagedFileError where `folder` does not hold what a training saved, or UnreadableFileError."""
    then = trained.model_sha256
    now = _hash_now(folder, MODEL_FILES) if then is not None else None
    if now != then:
        assert then is not None
        found = "is missing, which held what was trained"
        if now is not None:
            found = f"does not hold what was trained ({_change(then, now)})"
        raise DamagedFileError(f"{folder} {found}. `tuneoff run` trains it again without {folder.parent}.")


def _change(then: str, now: str) -> str:
    return f"sha256 {then[:12]} → {now[:12]}"


def _hash_now(folder: Path, patterns: tuple[str, ...]) -> str | None:
    """The hash of what a folder holds now; None where there is no such folder. Raises UnreadableFileError."""
    if not folder.is_dir():
        return None
    try:
        found = tuple((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in _files(folder, patterns))
        return _hash_once(folder, patterns, found)
    except OSError as error:
        raise UnreadableFileError(f"{folder} cannot be read ({error.strerror})") from None


@cache
def _hash_once(folder: Path, patterns: tuple[str, ...], _state: tuple[tuple[str, int, int], ...]) -> str:
    """The hash, once in a process while names, sizes and times of the files stay what they are."""
    return _hash(folder, patterns, lambda *_: None)


def hash_tokenizer(folder: Path) -> str:
    """The SHA-256 over names and contents of a folder's tokenizer files, as hexadecimal digits."""
    return _hash(folder, TOKENIZER_FILES, lambda *_: None)


def _files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


def _hash(folder: Path, patterns: tuple[str, ...], report: Callable[[int, int], None]) -> str:
    files = _files(folder, patterns)
    total, done = sum(path.stat().st_size for path in files), 0
    digest = hashlib.sha256()
    for path in files:
        # The length before the name and before the content keeps two folders with the same bytes in a row apart.
        digest.update(f"{len(path.name)}:{path.name}:{path.stat().st_size}:".encode())
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                done += len(chunk)
                report(done >> 20, total >> 20)
    return digest.hexdigest()
