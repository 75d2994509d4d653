"""The whole of an export: check → write → verify → card, in a folder beside the one asked for, which appears whole."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.data.chat import DAY, SAME_DAY, dated
from tuneoff.data.prompt import Prompt
from tuneoff.errors import ExportError, nearest
from tuneoff.folder import RunFolder, sync_folder, write_whole
from tuneoff.model.methods import uses_peft
from tuneoff.model.quiet import quiet
from tuneoff.progress import ProgressListener
from tuneoff.recipe.evaluation import SearchSpec
from tuneoff.report.card import Exported, ReadBack, Usage, model_card, usage_code
from tuneoff.report.card.build import model_origin
from tuneoff.room import room_for
from tuneoff.runner.finished import Finished
from tuneoff.use.export.adapter import write_adapter
from tuneoff.use.export.ctranslate2 import write_ctranslate2
from tuneoff.use.export.gguf import write_f16, write_q8_0
from tuneoff.use.export.gguf_reading import read_f16, read_q8_0
from tuneoff.use.export.merged import scored_dtype, write_merged
from tuneoff.use.export.onnx import write_onnx
from tuneoff.use.export.verify import verify

if TYPE_CHECKING:
    from transformers import GenerationConfig

EXAMPLE = "Ann: Are you coming on Friday?\nBen: Only after six, I work until five.\nAnn: Then we eat at seven."


@dataclass(frozen=True)
class Format:
    """`write` fills a folder, and says how the trial searched; `uses` are the packages that it does so with.

    `extra` are those that the extra of the same name brings. Some compute `in_fp32` whatever the trial did
    (CTranslate2 where the device has no bf16). `bytes_per_weight` is what a weight takes at most where that is neither
    the trial's nor fp32. `read` reads back what was written. `runtime` is the package that writes texts with it, and
    its module, where verifying can do without. `searches` are the settings of `evaluation.search` that the code of the
    export follows, and `searcher` is what that code searches with.
    """

    write: Callable[[Finished, Path], GenerationConfig]
    uses: tuple[str, ...]
    extra: tuple[str, ...] = ()
    in_fp32: bool = False
    bytes_per_weight: float | None = None
    read: Callable[[Finished, Path], ReadBack] | None = None
    runtime: tuple[str, str] | None = None
    searches: frozenset[str] = frozenset()
    searcher: str = "transformers"

    @property
    def runs_here(self) -> bool:
        """Whether texts can be written with what was exported."""
        return self.runtime is None or find_spec(self.runtime[1]) is not None


ALL_SEARCHES = frozenset(SearchSpec.model_fields)
LLAMA_CPP = ("llama-cpp-python", "llama_cpp")
READ_BACK = 4  # bytes of a weight that is read back

FORMATS = {
    "adapter": Format(write_adapter, uses=("peft", "transformers", "torch"), searches=ALL_SEARCHES),
    "merged": Format(write_merged, uses=("transformers", "torch"), searches=ALL_SEARCHES),
    "ctranslate2": Format(
        write_ctranslate2,
        uses=("ctranslate2", "transformers", "torch"),
        extra=("ctranslate2",),
        in_fp32=True,
        searches=frozenset({"num_beams"}),
        searcher="CTranslate2",
    ),
    "onnx": Format(
        write_onnx,
        uses=("onnx", "onnxscript", "onnxruntime", "transformers", "torch"),
        extra=("onnx", "onnxscript", "onnxruntime"),
        in_fp32=True,
        searcher="ONNX Runtime",
    ),
    "gguf": Format(
        write_f16,
        uses=("gguf", "transformers", "torch"),
        bytes_per_weight=2 + READ_BACK,
        read=read_f16,
        runtime=LLAMA_CPP,
        searcher="llama.cpp",
    ),
    "gguf-q8_0": Format(
        write_q8_0,
        uses=("gguf", "transformers", "torch"),
        bytes_per_weight=34 / 32 + READ_BACK,
        read=read_q8_0,
        runtime=LLAMA_CPP,
        searcher="llama.cpp",
    ),
}


def export(
    run: RunFolder, arm: str, to: Path, format: str, tell: ProgressListener, seed: int | None = None
) -> Exported:
    """Export a finished arm into the folder `to`, which must not exist or be empty. What it is and how it was verified.

    Raises ExportError where the format does not go with the arm, or where the export does not write what the trial
    wrote, and WriteError where the disk has no room for it: then nothing is left in `to`.
    """
    _require_format(format)
    finished = Finished(run, arm, seed)
    if format == "adapter" and not uses_peft(finished.spec.method):
        raise ExportError(
            f"arm {arm} has no adapter (its method is {finished.spec.method!r}); --format merged writes its whole model"
        )
    _require_search(finished, format)
    finished.require_whole()
    to = to.resolve()
    with room_for(to, _least_bytes(finished, format)):
        return _export(finished, run, to, format, tell)


def _least_bytes(finished: Finished, format: str) -> int:
    """What an export takes at least: the adapter's files, or the weights of the whole model."""
    if format == "adapter":
        return sum(path.stat().st_size for path in finished.trial.model.iterdir())
    parameters = finished.result.parameters
    made = FORMATS[format]
    size = made.bytes_per_weight or (4 if made.in_fp32 else scored_dtype(finished).itemsize)
    return int(parameters.total * size) if parameters is not None else 0


def _export(finished: Finished, run: RunFolder, to: Path, format: str, tell: ProgressListener) -> Exported:
    made = FORMATS[format]
    temporary = _beside(to)
    try:
        tell.phase(f"write {format}")
        with quiet():
            search = made.write(finished, temporary)
        gc.collect()  # the model, before another process loads its own
        code = usage_code(_usage(finished, format, search))
        tell.phase("verify")
        read = made.read(finished, temporary) if made.read else None
        gc.collect()
        texts = verify(finished, temporary, code, tell, made.in_fp32) if made.runs_here else None
        exported = Exported(
            format=format,
            run=run.path.resolve().name,
            arm=finished.name,
            seed=finished.seed,
            created=f"{datetime.now(UTC):%Y-%m-%d}",
            versions={name: version(name) for name in ("tuneoff", *made.uses)},
            verification=texts,
            read_back=read,
            runtime=made.runtime[0] if made.runtime else None,
        )
        write_whole(temporary / "README.md", model_card(run, finished.recipe, finished.result, exported, code))
        exported.write(temporary / "export.json")
        _publish(temporary, to)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return exported


def _require_format(name: str) -> None:
    """Raise ExportError where there is no such format, or what it needs is not installed."""
    if name not in FORMATS:
        raise ExportError(f"no format {name!r}; {nearest(name, FORMATS)}")
    missing = [package for package in FORMATS[name].extra if find_spec(package) is None]
    if missing:
        raise ExportError(f"--format {name} needs {', '.join(missing)}: pip install {' '.join(missing)}")


def _require_search(finished: Finished, format: str) -> None:
    """Raise ExportError where the trial searched in a way that the export's code does not."""
    made, changed = FORMATS[format], finished.recipe.evaluation.search.changed
    missing = [f"evaluation.search.{name} {value}" for name, value in changed.items() if name not in made.searches]
    if missing:
        others = [name for name, other in FORMATS.items() if name != "adapter" and changed.keys() <= other.searches]
        raise ExportError(
            f"arm {finished.name} was scored with {', '.join(missing)}, which the code for {made.searcher} does not "
            f"follow; --format {' or '.join(others)} does"
        )


def _beside(to: Path) -> Path:
    """A new folder on the same file system as `to`. Raises ExportError where `to` is taken, or cannot be."""
    if to.exists() and not (to.is_dir() and not any(to.iterdir())):
        raise ExportError(f"{to} already exists and is not empty: choose another folder with --to")
    try:
        inside = to if to.is_dir() else to.parent
        inside.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=inside, prefix=f".{to.name}."))
    except (FileExistsError, NotADirectoryError):
        raise ExportError(f"{to}: what it is to lie in is a file") from None
    except OSError as error:
        raise ExportError(f"{to}: cannot write there ({error.strerror})") from None


def _publish(temporary: Path, to: Path) -> None:
    """Everything on the disk and readable to others, then in its place by a rename.

    An empty folder that is there already stays (it may be a mount point, or where a shell stands) and is filled.
    """
    temporary.chmod(0o755)
    for path in temporary.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    if to.is_dir():
        for path in temporary.iterdir():
            path.replace(to / path.name)
        temporary.rmdir()
        sync_folder(to)
    else:
        temporary.replace(to)
        sync_folder(to.parent)


def _usage(finished: Finished, format: str, search: GenerationConfig) -> Usage:
    """What the code must know of the trial to write what it wrote."""
    recipe, resolved = finished.recipe, finished.resolved
    origin = model_origin(recipe, resolved)
    ends, start = search.eos_token_id, search.decoder_start_token_id
    return Usage(
        format=format,
        model_class=resolved.model_class,
        template=recipe.prompt,
        columns=list(dict.fromkeys(Prompt(recipe.prompt).columns)) if recipe.prompt is not None else [],
        input=recipe.data.input,
        example=EXAMPLE,
        truncate=recipe.data.truncate,
        chat=resolved.chat,
        day=DAY,
        same_day=SAME_DAY if resolved.chat is not None and dated(finished.tokenizer) else None,
        fast=finished.tokenizer.is_fast,
        max_source_length=recipe.data.max_source_length,
        max_new_tokens=recipe.evaluation.max_new_tokens,
        num_beams=recipe.evaluation.search.num_beams,
        added_end=finished.tokenization.added_end,
        ends=ends if isinstance(ends, list) else [ends],
        start=start if start is not None else search.bos_token_id,
        dtype=str(scored_dtype(finished)).removeprefix("torch."),
        base=origin.loads,
        revision=origin.revision if origin.loads else None,
    )
