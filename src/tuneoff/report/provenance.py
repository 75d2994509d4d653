"""What really ran: model, data, settings, software and machine of a run, with all that is needed to run it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from tuneoff.folder import RunFolder
from tuneoff.recipe import Recipe
from tuneoff.recipe.schema import TokenizerSpec
from tuneoff.records import ChosenEngine, Record, Resolved, SplitStatistics
from tuneoff.report.arms import Arm
from tuneoff.version import __version__


class ArmRan(Record):
    """One arm as it was carried out.

    Attributes:
        arm: Its name.
        method: `none`, `full` or peft's name.
        settings: The method's settings and what overrides the training's, with the learning rate that was used.
        engine: The engine that computed it, and `engine_reason`, why that one.
        trainable: Trainable parameters.
        steps: Optimizer steps that were done, and `examples`, how many examples these were of.
        seeds: The seeds that have finished.
        busy: The largest share of CPU or GPU time that other programs took in training or generation; None where it was
            not recorded.
    """

    arm: str
    method: str
    settings: dict[str, Any]
    engine: str | None
    engine_reason: str | None
    trainable: int | None
    steps: int | None
    examples: int | None
    seeds: list[int]
    busy: float | None


class Provenance(Record):
    """What one run ran on. None where the run has not been prepared, or an older tuneoff did not record it.

    Attributes:
        run: The name of its folder.
        command: The command that runs the recipe of the run's folder again, at the same commits of the hub.
        model: The original model's name, or what it is.
        model_revision: Its commit on the hub; None for a folder of this machine.
        model_sha256: The hash of the folder's config and weights.
        gguf: What the weights were converted from, in words.
        parameters: Numbers of the original model's parameters.
        tokenizer: The tokenizer that the recipe names; None where it is the model's own.
        tokenizer_revision: Its commit on the hub, and `tokenizer_sha256`, the hash of a folder's files.
        chat: Whether prompts are asked by the model's chat template.
        data: The data's source: a name of the hub, a folder, or files.
        data_revision: Its commit on the hub.
        splits: What was read of each split: rows, examples, references, truncated ones, tokens, a hash of the content.
        scored: The split that is scored.
        seeds: The seeds of the recipe.
        precision: bf16 or fp32, and why where the recipe asks for the other.
        micro_batch: How many of the longest examples go through the model at once.
        arms: Each arm as it was carried out.
        environments: Machine, threads, libraries and settings of the finished trials; several where they differ.
        recipe: The recipe, with all defaults.
    """

    run: str
    command: str
    model: str
    model_revision: str | None = None
    model_sha256: str | None = None
    gguf: str | None = None
    parameters: int | None = None
    tokenizer: str | None = None
    tokenizer_revision: str | None = None
    tokenizer_sha256: str | None = None
    chat: bool = False
    data: str
    data_revision: str | None = None
    splits: dict[str, SplitStatistics] = Field(default_factory=dict)
    scored: str
    seeds: list[int]
    precision: str | None = None
    micro_batch: int | None = None
    arms: list[ArmRan]
    environments: list[dict[str, Any]]
    recipe: dict[str, Any]


def provenance(
    folder: RunFolder, recipe: Recipe, resolved: Resolved | None, arms: Sequence[Arm], prefix: str = ""
) -> Provenance:
    """What the run in `folder` ran on; `arms` are its arms, whose names begin with `prefix`."""
    results = [result for arm in arms for result in arm.done.values()]
    environments = [result.environment for result in results]
    environments += [result.training.environment for result in results if result.training is not None]
    recorded = [one for one in environments if one]
    adapters = (r.method not in ("none", "full") for r in results)  # whose parameters are no part of the original
    totals = [
        r.parameters.total - (r.parameters.trainable if adapter else 0)
        for r, adapter in zip(results, adapters, strict=True)
        if r.parameters is not None
    ]
    asked = recipe.model.tokenizer
    gguf = resolved.gguf if resolved is not None else None
    engines = resolved.engines if resolved is not None else {}
    return Provenance(
        run=folder.path.resolve().name,
        command=_command(folder, recipe, resolved),
        model=recipe.model.name or "random weights, by the recipe's config",
        gguf=f"{gguf.file}, a {gguf.weights}" if gguf is not None else None,
        parameters=min(totals, default=None),
        tokenizer="trained on the data" if isinstance(asked, TokenizerSpec) else asked,
        data=_source(recipe.data.source),
        scored=recipe.evaluation.split,
        seeds=recipe.seeds,
        arms=[_arm_ran(arm, engines.get(arm.name.removeprefix(prefix))) for arm in arms],
        environments=[one for n, one in enumerate(recorded) if one not in recorded[:n]],
        recipe=recipe.model_dump(mode="json"),
        **_resolved(resolved),
    )


def _command(folder: RunFolder, recipe: Recipe, resolved: Resolved | None) -> str:
    run = folder.path.resolve()
    parts = ["tuneoff", "run", str(run / folder.recipe.name), "--out", f"{run}-again"]
    if resolved is not None:
        pinned = {"model.revision": resolved.model_revision, "data.revision": resolved.data_revision}
        given = {"model.revision": recipe.model.revision, "data.revision": recipe.data.revision}
        parts += [
            part
            for key, commit in pinned.items()
            if commit and commit != given[key]
            for part in ("--set", f"{key}={commit}")
        ]
    return f"{shlex.join(parts)}  # tuneoff {__version__}"


def _resolved(resolved: Resolved | None) -> dict[str, Any]:
    """What is known once a run has been prepared."""
    if resolved is None:
        return {}
    return {
        "model_revision": resolved.model_revision,
        "model_sha256": resolved.model_sha256,
        "tokenizer_revision": resolved.tokenizer_revision,
        "tokenizer_sha256": resolved.tokenizer_sha256,
        "chat": resolved.chat is not None,
        "data_revision": resolved.data_revision,
        "splits": resolved.data,
        "precision": f"{resolved.precision}: {resolved.precision_reason}",
        "micro_batch": resolved.micro_batch,
    }


def _source(source: str | Mapping[Literal["train", "validation", "test"], str]) -> str:
    if isinstance(source, str):
        return source
    return ", ".join(f"{split}: {places}" for split, places in source.items())


def _arm_ran(arm: Arm, chosen: ChosenEngine | None) -> ArmRan:
    first = arm.first
    trained = first.training if first is not None else None
    loads = [load for r in arm.done.values() for phase in ("train", "evaluate") if (load := (r.load or {}).get(phase))]
    shares = [share for load in loads for share in (load.others, load.gpu_others) if share is not None]
    return ArmRan(
        arm=arm.name,
        method=arm.spec.method,
        settings=first.settings if first is not None else arm.spec.settings,
        engine=first.engine if first is not None else None,
        engine_reason=chosen.reason if chosen is not None else None,
        trainable=first.parameters.trainable if first is not None and first.parameters else None,
        steps=trained.steps if trained is not None else None,
        examples=trained.examples if trained is not None else None,
        seeds=list(arm.done),
        busy=max(shares, default=None),
    )
