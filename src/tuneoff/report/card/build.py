"""A finished arm and its export → the model card, as the hub reads it: metadata, then Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tuneoff.builtin import PREFIX
from tuneoff.builtin.packages import FETCHED
from tuneoff.folder import RunFolder
from tuneoff.recipe import Recipe
from tuneoff.records import GgufFile, Resolved, TrialResult
from tuneoff.report.card.records import COMPOSES, Exported
from tuneoff.report.comparison import compare
from tuneoff.report.cost_table import COST_COLUMNS, cost_notes, cost_rows
from tuneoff.report.markdown import code, fenced, plain, quoted
from tuneoff.report.table import floor_cells, notes, table_cells, table_columns
from tuneoff.report.verdict import verdict
from tuneoff.score.metrics import Metric, find_metrics
from tuneoff.units import bytes_text, count_text, duration_text
from tuneoff.version import __version__

HERE = Path(__file__).parent
LIBRARIES = {"adapter": "peft", "merged": "transformers", "ctranslate2": "ctranslate2", "onnx": "onnx", "gguf": "gguf"}
INSTALL = {
    "adapter": "peft transformers torch",
    "merged": "transformers torch",
    "ctranslate2": "ctranslate2 tokenizers",
    "onnx": "onnxruntime tokenizers numpy",
    "gguf": "llama-cpp-python tokenizers",
}
# What is known of what ships with tuneoff.
LICENCES = {
    "builtin:dialog-t5-nano": (
        "cc-by-sa-4.0",
        "The weights of builtin:dialog-t5-nano are offered under CC BY-SA 4.0, as one of its sources, Schema-Guided "
        "Dialogue, asks: what is made of them has the same licence.",
    )
}
LICENCE_UNKNOWN = (
    "The terms of the original model hold for what is made of it, and those of the data may. This card knows neither."
)
LANGUAGES = {"builtin:everyday": "en"}


@dataclass(frozen=True)
class Origin:
    """Where the original model or the data come from, and at which commit. `hub` is the name there, if any.

    A model of random weights has no name. `gguf` is what the file says that the model was converted from, if any.
    """

    name: str
    hub: str | None
    revision: str | None
    gguf: GgufFile | None = None

    @property
    def loads(self) -> str | None:
        """The name that `from_pretrained` loads the very weights by; None where the hub has none, or a GGUF alone."""
        return self.hub if self.gguf is None else None

    def __str__(self) -> str:
        if not self.name:
            return "A model of random weights"
        at = f" at {code(self.revision)}" if self.revision else ""
        if self.gguf is not None:
            of = f" of {code(self.hub)}" if self.hub and self.hub != self.name else ""
            return f"{code(self.name)}{at} ({code(self.gguf.file)}{of}, {self.gguf.weights})"
        ships = ", which ships with tuneoff" if self.name.startswith(PREFIX) else ""
        return f"{code(self.name)}{at}{ships}"


def model_card(folder: RunFolder, recipe: Recipe, result: TrialResult, exported: Exported, usage: str) -> str:
    """The card of one export of the trial `result`; `usage` is code that uses it (`usage_code`).

    Raises RunFolderError where the run cannot be read.
    """
    from huggingface_hub import ModelCard

    comparison, _ = compare(folder)
    resolved = Resolved.read(folder.resolved)
    model, data = model_origin(recipe, resolved), _data_origin(recipe, resolved)
    by_transformers = "from transformers import" in usage  # for its chat template, where the format does without
    values = {
        "title": f"{exported.run}: {exported.arm}",
        "model": model,
        "data": data,
        "exported": exported,
        "result": result,
        "figures": ", ".join(f"{metric.label} {metric.shown(value)}" for metric, value in _figures(result)),
        "explained": "; ".join(dict.fromkeys(metric.explained for metric, _ in _figures(result))),
        "recipe": recipe,
        "prompt": fenced(recipe.prompt) if recipe.prompt is not None else None,
        "layout": comparison.layout,
        "usage": fenced(usage, "python"),
        "install": INSTALL[exported.family].replace(
            "tokenizers", "transformers jinja2" if by_transformers else "tokenizers"
        ),
        "arms": len(comparison.arms),
        "columns": table_columns(comparison),
        "rows": [
            [f"**{plain(cell)}**" if row.arm == exported.arm else plain(cell) for cell in table_cells(row, comparison)]
            for row in comparison.arms
        ]
        + [[plain(cell) for cell in cells] for cells in floor_cells(comparison)],
        "notes": notes(comparison),
        "cost_columns": COST_COLUMNS,
        "cost_rows": cost_rows(comparison),
        "cost_notes": cost_notes(comparison),
        "verdict": verdict(comparison),
        "splits": resolved.data,
        "precision": (result.precision or "not noted").partition(":")[0],
        "settings": _settings(recipe, result),
        "measured": _measured(result),
        "environment": _environment_lines(result, exported),
        "licence": _licence(model),
        "difference": _difference(exported),
        "chats": recipe.prompt is None or resolved.chat is not None,
        "composes": COMPOSES,
        "version": __version__,
    }
    data_of_card = _metadata(recipe, result, exported, model, data)
    text = _template().get_template("card.md.j2").render(values)
    return str(ModelCard(f"---\n{data_of_card.to_yaml()}\n---\n\n{text}"))


def model_origin(recipe: Recipe, resolved: Resolved) -> Origin:
    """The original model: a hub name with its pinned commit, or what lies on this machine, without its place here."""
    name = recipe.model.name
    if name is None:
        return Origin("", None, None)
    if name.startswith(PREFIX):
        package = FETCHED.get(name.removeprefix(PREFIX))
        return Origin(name, package.published if package else None, None, resolved.gguf)
    if resolved.gguf is not None:
        hub = None if Path(name).is_absolute() else name
        return Origin(hub or Path(name).name, hub, resolved.model_revision, resolved.gguf)
    if resolved.model_sha256 is not None:
        return Origin(Path(resolved.model_path).name, None, None)
    return Origin(name, name, resolved.model_revision)


def _data_origin(recipe: Recipe, resolved: Resolved) -> Origin:
    source = recipe.data.source
    if not isinstance(source, str):
        return Origin(", ".join(Path(path).name for path in source.values()), None, None)
    if source.startswith(PREFIX):
        return Origin(source, None, None)
    if Path(resolved.recipe["data"]["source"]).is_absolute():
        return Origin(Path(source).resolve().name, None, None)
    return Origin(source, source, resolved.data_revision)


def _metadata(recipe: Recipe, result: TrialResult, exported: Exported, model: Origin, data: Origin) -> Any:
    """What the hub's search and widgets read. What is not known is left out."""
    from huggingface_hub import EvalResult, ModelCardData

    figures = _figures(result)
    summarises = any("summar" in (text or "").lower() for text in (recipe.prompt, recipe.data.target))
    task = "summarization" if summarises else "text-generation"
    return ModelCardData(
        model_name=f"{exported.run}-{exported.arm}",
        base_model=model.hub,
        datasets=[data.hub] if data.hub else None,
        language=LANGUAGES.get(data.name),
        license=licence_name(model),
        library_name=LIBRARIES[exported.family],
        pipeline_tag=task,
        metrics=list(dict.fromkeys(metric.hub for metric, _ in figures if metric.hub)),
        tags=["tuneoff", *([result.method] if result.method != "none" else []), exported.family],
        eval_results=[
            EvalResult(
                task_type=task,
                dataset_type=data.hub or data.name,
                dataset_name=data.name,
                dataset_config=recipe.data.config,
                dataset_split=recipe.evaluation.split,
                dataset_revision=data.revision,
                metric_type=metric.name,
                metric_name=metric.label,
                metric_value=round(metric.scale * value, metric.digits),
                metric_args={"signature": result.signature},
            )
            for metric, value in figures
        ],
    )


def _figures(result: TrialResult) -> list[tuple[Metric, float]]:
    """The mean figure in 0…1 of every metric that the trial is scored by."""
    assert result.scores is not None
    found = {metric: result.scores.metrics[metric.name] for metric in find_metrics(result.scores.metrics)}
    return [(metric, metric.of_trial(score)) for metric, score in found.items()]


def licence_name(model: Origin) -> str | None:
    """The licence of the original model, by the name that the hub has for it; None where it is not known."""
    if model.gguf is not None:
        return model.gguf.license
    return LICENCES[model.name][0] if model.name in LICENCES else None


def _licence(model: Origin) -> str:
    """What is known of the terms, in a sentence."""
    if not model.name:
        return "The weights began at random; the terms of the data may hold for what is made of them."
    if model.gguf is not None and model.gguf.license is not None:
        return (
            f"{code(model.gguf.file)} names the licence {code(model.gguf.license)}, whose terms hold for what is made "
            "of it; those of the data may. This card knows nothing of the latter."
        )
    return LICENCES[model.name][1] if model.name in LICENCES else LICENCE_UNKNOWN


def _settings(recipe: Recipe, result: TrialResult) -> dict[str, Any]:
    """How the arm was trained: its method's settings, then what all arms share."""
    if result.training is None:
        return {}
    shared = recipe.training.model_dump(exclude={"report_to", "checkpoint_minutes", "tune_steps"}, exclude_none=True)
    steps = {"steps": result.training.steps, "examples seen": result.training.examples}
    return {"method": result.method, **result.settings, **shared, **steps, "seed": result.seed}


def _measured(result: TrialResult) -> list[str]:
    """Time and memory of this trial. What was not measured is left out."""
    lines = []
    if result.parameters is not None:
        total, trainable = count_text(result.parameters.total), count_text(result.parameters.trainable)
        lines.append(f"{trainable} of {total} parameters trained")
    seconds, memory = result.seconds or {}, result.memory
    if result.training is not None:
        lines.append(f"training took {duration_text(seconds.get('train'))}")
    lines.append(f"writing the {result.scores.examples if result.scores else 0:,} examples took "
                 f"{duration_text(seconds.get('evaluate'))}")  # fmt: skip
    if memory is not None and memory.train is not None and memory.train.peak is not None:
        lines.append(f"peak memory of a training step: {bytes_text(memory.train.peak)}")
    if memory is not None and memory.evaluate.peak is not None:
        lines.append(f"peak memory while writing: {bytes_text(memory.evaluate.peak)}")
    if memory is not None and memory.process_peak is not None:
        lines.append(f"all that a process of the trial held at most: {bytes_text(memory.process_peak)}")
    return lines


def _environment_lines(result: TrialResult, exported: Exported) -> list[str]:
    trial = result.environment or {}
    packages = ", ".join(f"{name} {version}" for name, version in trial.get("packages", {}).items() if version)
    here = ", ".join(f"{name} {version}" for name, version in exported.versions.items())
    machine = f"{trial.get('device_name')}, Python {trial.get('python')}, " if trial else ""
    return [f"trained and scored: {machine}{packages}", f"exported: {here}"]


def _difference(exported: Exported) -> tuple[str, str, str] | None:
    first = exported.verification.first_difference if exported.verification else None
    return (first.id, quoted(first.trial), quoted(first.export)) if first else None


def _template() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"plain": plain, "code": code}
    return made
