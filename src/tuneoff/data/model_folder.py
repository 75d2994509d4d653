"""The model that a recipe names, as far as its files say whether it can be loaded: no library is needed."""

from __future__ import annotations

import json
from pathlib import Path

from tuneoff.builtin import PREFIX, located
from tuneoff.builtin.packages import FETCHED
from tuneoff.errors import Problem, TuneoffError, nearest
from tuneoff.recipe.places import is_path
from tuneoff.recipe.schema import ModelSpec

OTHER_WEIGHTS = ("pytorch_model*.bin", "tf_model*.h5", "flax_model*.msgpack", "*.gguf")


def check_model_files(model: ModelSpec, *, weights: bool) -> list[Problem]:
    """What is wrong with the local folders and files that a recipe names as model, config or tokenizer.

    With `weights`, also where a folder has none that can be loaded. Names of the hub are not asked about.
    """
    problems = []
    for key in ("name", "config", "tokenizer"):
        value = getattr(model, key)
        if isinstance(value, str):
            problems += [Problem(("model", key), message) for message in _missing(value)]
    if problems or model.name is None or not Path(model.name).is_dir():
        return problems
    folder = Path(model.name)
    if model.gguf is not None:
        return [] if (folder / model.gguf).is_file() else [Problem(("model", "gguf"), _no_gguf(folder, model.gguf))]
    problems = check_model_folder(model.name)
    if problems:
        return problems
    if not (folder / "config.json").is_file():
        return [Problem(("model",), f"{folder} is no model's folder: it has no config.json")]
    if weights and not any(folder.glob("*.safetensors")):
        return [Problem(("model",), _no_safetensors(folder))]
    return []


def _missing(name: str) -> list[str]:
    """What is wrong with a name that is nothing, or a path where nothing is."""
    if name.startswith(PREFIX):
        if name.removeprefix(PREFIX) in FETCHED:  # it may have to be downloaded
            return []
        try:
            located(name)
        except TuneoffError as error:
            return [str(error)]
        return []
    path = Path(name)
    if not is_path(name) or path.exists():
        return []
    return [f"no such folder: {path}{near_name(path)}"]


def near_name(path: Path) -> str:
    """`; did you mean 'x'?`, where something beside `path` has a name like it."""
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = nearest(path.name, beside)
    return f"; {hint}" if hint.startswith("did you mean") else ""


def _no_gguf(folder: Path, gguf: str) -> str:
    there = [str(path.relative_to(folder)) for path in folder.rglob("*.gguf")]
    return f"no such file: {folder / gguf}; {nearest(gguf, there) if there else 'no GGUF file is there'}"


def _no_safetensors(folder: Path) -> str:
    found = [path.name for pattern in OTHER_WEIGHTS for path in sorted(folder.glob(pattern))]
    if not found:
        return f"{folder} has no weights (model.safetensors)"
    if all(name.endswith(".gguf") for name in found):
        return f"{folder} has {found[0]} only: name it as the model, {{gguf: {folder / found[0]}}}"
    shown = ", ".join(found[:2]) + (", …" if len(found) > 2 else "")
    code = (
        f"from transformers import {_architecture(folder)} as M; "
        f"M.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
    )
    return f'{folder} has {shown} only; tuneoff loads safetensors. Convert: python -c "{code}"'


def _architecture(folder: Path) -> str:
    """The class of transformers that the config names."""
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"][0])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return "AutoModelForCausalLM"


def check_model_folder(name: str, revision: str | None = None) -> list[Problem]:
    """Refuses a model folder, or a repository of the hub, that holds an adapter of peft.

    transformers would load the adapter onto the model by itself; full fine-tuning would then train the model and
    save the adapter alone.
    """
    found = _adapter_config(name, revision)
    if found is None:
        return []
    try:
        base = json.loads(found.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    other = f"name the adapter's base model ({base})" if base else "name the adapter's base model"
    message = (
        f"{name} holds an adapter (adapter_config.json), which transformers would load together with the model. "
        f"To begin with the adapter's weights, merge them first (peft's merge_and_unload) and save the model to "
        f"another folder; to begin without them, {other} or move the adapter's files away"
    )
    return [Problem(("model",), message)]


def _adapter_config(name: str, revision: str | None) -> Path | None:
    if Path(name).is_dir():
        file = Path(name) / "adapter_config.json"
        return file if file.is_file() else None
    from transformers.utils.peft_utils import find_adapter_config_file

    try:
        found = find_adapter_config_file(name, revision=revision)
    except (OSError, ValueError):  # no such repository, or no way to it: loading the config says so
        return None
    return Path(found) if found is not None else None
