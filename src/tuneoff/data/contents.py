"""Hashes of what lies in a local model folder, so that a changed byte is noticed where no commit is pinned."""

from __future__ import annotations

import glob
import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from tuneoff.cache import cache_folder
from tuneoff.errors import CacheError, DamagedFileError, ModelError, UnreadableFileError, WriteError
from tuneoff.records import Record, Resolved, Trained

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
KEPT_FROM = 1 << 26  # bytes of a folder's files from which its hash is kept: fewer are read in a moment
QUIET_SECONDS = 2.0  # that files must have been unchanged for: clocks of file systems are coarse

State = tuple[tuple[str, int, int, int, int], ...]  # name, size, inode, times of the last change of content and of all


class KeptHash(Record):
    """A hash in the cache."""

    sha256: str


def hash_model(folder: Path, report: Callable[[int, int], None] = lambda *_: None) -> str:
    """The SHA-256 over names and contents of a model folder's config and weights, as hexadecimal digits.

    `report` is told how many mebibytes of how many have been read.
    """
    return _hash(folder, MODEL_FILES, report)


def hash_base(folder: Path, report: Callable[[int, int], None]) -> str:
    """The hash of an original model, as `hash_model` gives it; a large one is not read again while it is unchanged."""
    return _hash_kept(folder, MODEL_FILES, _state(folder, MODEL_FILES), report)


def hash_file(path: Path, report: Callable[[int, int], None] = lambda *_: None) -> str:
    """The hash over name and content of one file; a large one is not read again while it is unchanged.

    Raises UnreadableFileError.
    """
    patterns = (glob.escape(path.name),)
    try:
        return _hash_kept(path.parent, patterns, _state(path.parent, patterns), report)
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read ({error.strerror})") from None


def require_same_model(resolved: Resolved) -> None:
    """Raise ModelError where the original model, or its tokenizer, is another now than when a run began.

    What lies in a folder of this machine is asked; what is of the hub has a commit. Raises UnreadableFileError, too.
    """
    _require_same("model", Path(resolved.model_path), resolved.model_sha256, MODEL_FILES)
    _require_same("tokenizer", Path(resolved.tokenizer_path), resolved.tokenizer_sha256, TOKENIZER_FILES)


def _require_same(what: str, folder: Path, then: str | None, patterns: tuple[str, ...]) -> None:
    now = _hash_now(folder, patterns, keep=True) if then is not None else None
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


def _hash_now(folder: Path, patterns: tuple[str, ...], keep: bool = False) -> str | None:
    """The hash of what a folder holds now; None where there is no such folder. Raises UnreadableFileError.

    With `keep` it may be that of the cache (`_hash_kept`).
    """
    if not folder.is_dir():
        return None
    try:
        return _hash_once(folder, patterns, _state(folder, patterns), keep)
    except OSError as error:
        raise UnreadableFileError(f"{folder} cannot be read ({error.strerror})") from None


@cache
def _hash_once(folder: Path, patterns: tuple[str, ...], state: State, keep: bool) -> str:
    """The hash, once in a process while the files stay what they are."""
    if keep:
        return _hash_kept(folder, patterns, state, lambda *_: None)
    return _hash(folder, patterns, lambda *_: None)


def _state(folder: Path, patterns: tuple[str, ...]) -> State:
    """What changes where a file is written to, replaced or renamed."""
    found = ((path.name, path.stat()) for path in _files(folder, patterns))
    return tuple((name, s.st_size, s.st_ino, s.st_mtime_ns, s.st_ctime_ns) for name, s in found)


def _hash_kept(folder: Path, patterns: tuple[str, ...], state: State, report: Callable[[int, int], None]) -> str:
    """The hash of `folder` in `state`: from the user's cache where the files are large and this state was read before.

    A hash is kept only of files that had not been changed for a while when their reading began, since a change within
    the file system's clock tick would leave the same state.
    """
    newest = max((max(changed, touched) for *_, changed, touched in state), default=0)
    quiet = time.time() - newest / 1e9 > QUIET_SECONDS
    if not quiet or sum(size for _, size, *_ in state) < KEPT_FROM:
        return _hash(folder, patterns, report)
    key = hashlib.sha256(repr((str(folder.resolve()), patterns, state)).encode(errors="surrogateescape")).hexdigest()
    try:
        path = cache_folder("hashes") / f"{key[:32]}.json"
    except CacheError:
        return _hash(folder, patterns, report)
    with suppress(DamagedFileError):  # or not there yet
        return KeptHash.read(path).sha256
    found = _hash(folder, patterns, report)
    with suppress(WriteError):
        KeptHash(sha256=found).write(path)
    return found


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
