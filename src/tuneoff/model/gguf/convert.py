"""The conversion: transformers reads the file, what it has left out is refused, and the model is saved in the cache.

Weights are held in fp32: that is what a type of ggml gives by its definition (a scale times an integer, plus a
minimum), and what bf16 or fp16 would round a second time.
"""

from __future__ import annotations

import gc
import hashlib
import io
import json
import tempfile
from contextlib import redirect_stderr
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tuneoff.cache import cache_folder
from tuneoff.errors import DamagedFileError, ModelError, first_line
from tuneoff.folder import write_json
from tuneoff.measure.allocator import give_back
from tuneoff.model.base import model_class
from tuneoff.model.gguf.header import open_gguf, read_header, value
from tuneoff.model.gguf.tokenizer import drop_foreign_tokens, read_tokenizer
from tuneoff.model.quiet import quiet
from tuneoff.model.saved import save_whole
from tuneoff.progress import ProgressListener
from tuneoff.records import GgufFile

FORMAT = 3  # of what is kept: to be raised with every change of what a conversion gives
NOTE = "gguf.json"  # written last: a folder without it is not whole
SIZES = "files.json"  # the bytes of each file but the note
ALONE = "model.gguf"


def converted(path: Path, sha256: str, tell: ProgressListener) -> tuple[Path, GgufFile]:
    """The folder of the model in the GGUF file at `path`, in `save_pretrained`'s layout, and what the file says.

    `sha256` is the hash of the file's name and content. It is converted once for each version of transformers and of
    the package `gguf`; another process that asks meanwhile waits. Raises ModelError, WriteError where the disk has no
    room, and CacheError.
    """
    from filelock import FileLock

    parts = (FORMAT, sha256, version("transformers"), version("gguf"))
    folder = cache_folder("gguf") / hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
    whole = _read_whole(folder)
    if whole is not None:
        return folder, whole
    with FileLock(folder.with_suffix(".lock")):
        whole = _read_whole(folder)  # another process may have made it meanwhile
        if whole is not None:
            return folder, whole
        tell.phase(f"convert {path.name}")
        reader = open_gguf(path)
        header = read_header(reader, path, sha256)
        try:
            return folder, _convert(path, reader, header, folder)
        except ModelError as error:
            raise ModelError(f"cannot load the model in {path}: {error}") from error
        finally:
            del reader
            gc.collect()
            give_back()  # a plan counts what this process holds


def read_back(path: Path, folder: Path) -> GgufFile:
    """Convert the GGUF file at `path` into `folder`, outside of the cache, as a model is read from it.

    Returns what the file says of itself. Raises ModelError, and WriteError where the disk has no room.
    """
    reader = open_gguf(path)
    try:
        return _convert(path, reader, read_header(reader, path, sha256=""), folder)
    finally:
        del reader
        gc.collect()
        give_back()


def _convert(path: Path, reader: Any, header: GgufFile, folder: Path) -> GgufFile:
    with tempfile.TemporaryDirectory(prefix="tuneoff-gguf-") as alone:
        # Alone: transformers would take a config.json or tokenizer.json beside the file for the file's own.
        (Path(alone) / ALONE).symlink_to(path.absolute())
        kind, split = value(reader, "tokenizer.ggml.model"), value(reader, "tokenizer.ggml.pre")
        with quiet(), redirect_stderr(io.StringIO()):  # a bar that nothing else switches off
            model = _load(Path(alone))
            tokenizer, warning = read_tokenizer(Path(alone), ALONE, kind, split)
            _require_all_read(reader, model)
            save_whole(model, tokenizer, folder)
    for name in ("config.json", "generation_config.json"):
        _without_origin(folder / name)
    drop_foreign_tokens(folder / "tokenizer.json", len(reader.fields["tokenizer.ggml.tokens"].data))
    header = header.model_copy(update={"warnings": [warning] if warning else []})
    write_json(folder / SIZES, {file.name: file.stat().st_size for file in sorted(folder.iterdir())})
    header.write(folder / NOTE)
    return header


def _read_whole(folder: Path) -> GgufFile | None:
    """What the file said whose conversion lies in `folder`; None where it does not, or is not whole any more."""
    try:
        sizes = json.loads((folder / SIZES).read_text(encoding="utf-8"))
        if all((folder / name).stat().st_size == size for name, size in sizes.items()):
            return GgufFile.read(folder / NOTE)
    except (OSError, ValueError, AttributeError, DamagedFileError):
        pass
    return None


def _load(folder: Path) -> Any:
    """The model of the file ALONE in `folder`, in fp32, with every weight from the file. Raises ModelError."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, GgufConfig

    try:
        config = AutoConfig.from_pretrained(str(folder), gguf_file=ALONE, trust_remote_code=False)
        auto = AutoModelForSeq2SeqLM if model_class(config) == "seq2seq" else AutoModelForCausalLM
        model, info = auto.from_pretrained(
            str(folder),
            gguf_file=ALONE,
            config=config,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            ignore_mismatched_sizes=True,  # they are told of below
            output_loading_info=True,
            trust_remote_code=False,
        )
    except ModelError:
        raise
    except Exception as error:  # an architecture that it does not know, a shape that does not fit: of several types
        raise ModelError(f"transformers {version('transformers')}: {first_line(error)}") from error
    lacking = sorted([*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])])
    if lacking:
        shown = ", ".join(lacking[:3]) + (", …" if len(lacking) > 3 else "")
        raise ModelError(f"{len(lacking)} tensors of the model are not in the file, or of another shape ({shown})")
    for holder in (model, model.config):  # what is left is an ordinary model, which can be saved
        holder.__dict__.pop("hf_quantizer", None)
        holder.__dict__.pop("quantization_config", None)
    return model


def _require_all_read(reader: Any, model: Any) -> None:
    """Raise ModelError where the file holds weights, or a rule of its positions, that transformers has left out."""
    sizes = {tensor.name: int(tensor.n_elements) for tensor in reader.tensors}
    held, read = sum(sizes.values()), sum(weight.numel() for weight in model.parameters())
    tied = bool(getattr(model.config, "tie_word_embeddings", False))
    if held != read and not (tied and held - read == sizes.get("output.weight")):
        positions = [name for name in sizes if name.startswith("rope_")]
        which = f" ({', '.join(positions)} among what is not)" if positions else ""
        raise ModelError(
            f"the file holds {held:,} weights, of which transformers {version('transformers')} reads {read:,}{which}: "
            "the model would not be the one that was published"
        )
    scaling = value(reader, f"{value(reader, 'general.architecture')}.rope.scaling.type")
    if scaling not in (None, "none") and not _scales_positions(model.config):
        raise ModelError(
            f"its positions are scaled ({scaling}), which transformers {version('transformers')} does not read of a "
            "GGUF file: the model would not be the one that was published"
        )


def _scales_positions(config: Any) -> bool:
    """Whether a config scales rotary positions, of all layers or of one kind of layers."""
    rope = getattr(config, "rope_parameters", None) or {}
    parts = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    return any(part.get("rope_type", "default") != "default" for part in parts)


def _without_origin(path: Path) -> None:
    """Leave out of a config what says how it was made: the same model by another version is then the same files."""
    if path.is_file():
        values = json.loads(path.read_text(encoding="utf-8"))
        made = ("transformers_version", "_model_name_or_path")
        write_json(path, {key: held for key, held in values.items() if key not in made})
