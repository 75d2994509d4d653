"""The report's section on what really ran: all that a reader needs to judge a run, and to run it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneoff.records import SplitStatistics
from tuneoff.report.chart import Table
from tuneoff.report.page.section import Section
from tuneoff.report.provenance import ArmRan, Provenance
from tuneoff.report.run_differences import run_differences
from tuneoff.units import NONE, bytes_text, count_text

SPLIT_COLUMNS = [
    "split", "rows", "examples", "references", "skipped", "truncated inputs", "truncated targets", "input tokens",
    "target tokens", "content (sha256)",
]  # fmt: skip
ARM_COLUMNS = ["arm", "method", "settings", "trainable", "engine", "steps", "examples", "seeds", "busy"]
DIGITS = 12  # of a hash


def ran_sections(ran: Sequence[Provenance]) -> list[Section]:
    """What each run ran on; before it, of several runs, what differs between them."""
    return [*([_unlike_runs(ran)] if len(ran) > 1 else []), _ran(ran)]


def _unlike_runs(ran: Sequence[Provenance]) -> Section:
    names = [one.run for one in ran]
    rows = [(place, *values) for place, values in run_differences(ran).items()]
    words = (
        "Where the runs differ: settings of the recipes as resolved, content of the data, engines, machines, versions."
        if rows
        else "The runs have the same recipe, data, engines, machine and versions."
    )
    tables = [Table("By run", ["what", *names], rows, open=True, prose=True)] if rows else []
    return Section("What differs between the runs", words, [], tables)


def _ran(ran: Sequence[Provenance]) -> Section:
    """A table of facts, one of the data's splits and one of the arms for each run."""
    tables = []
    for one in ran:
        of = f" of {one.run}" if len(ran) > 1 else ""
        tables.append(
            Table(f"Model, data, software and machine{of}", ["what", "value"], _facts(one), open=True, prose=True)
        )
        if one.splits:
            rows = [_split(name, found) for name, found in one.splits.items()]
            tables.append(Table(f"Data{of}", SPLIT_COLUMNS, rows, open=True))
        rows = [_arm(arm) for arm in one.arms]
        tables.append(Table(f"Arms{of} as they were carried out", ARM_COLUMNS, rows, open=True, prose=True))
    words = (
        f"Hashes are shortened to {DIGITS} digits; comparison.json has them in full. Examples: those trained on, "
        "counted once per epoch. Busy: the largest share of CPU or GPU time that other programs took during training "
        "or generation."
    )
    return Section("What ran", words, [], tables)


def _facts(one: Provenance) -> list[tuple[str, str]]:
    facts = [
        ("model", _pinned(one.model, one.model_revision, one.model_sha256)),
        ("converted from", one.gguf),
        ("parameters", f"{one.parameters:,}" if one.parameters is not None else None),
        ("tokenizer", _pinned(one.tokenizer or "the model's own", one.tokenizer_revision, one.tokenizer_sha256)),
        ("prompts", "by the model's chat template" if one.chat else "plain text"),
        ("data", _pinned(one.data, one.data_revision, None)),
        ("scored", f"split {one.scored}"),
        ("seeds", ", ".join(map(str, one.seeds))),
        ("precision", one.precision),
        ("micro-batch", str(one.micro_batch) if one.micro_batch is not None else None),
    ]
    for n, environment in enumerate(one.environments, start=1):
        which = f" {n}" if len(one.environments) > 1 else ""
        facts += [(f"{name}{which}", value) for name, value in _environment(environment)]
    return [(name, value) for name, value in [*facts, ("command", one.command)] if value]


def _pinned(name: str, revision: str | None, sha256: str | None) -> str:
    if revision is not None:
        return f"{name} at commit {revision}"
    return f"{name} (sha256 {sha256[:DIGITS]})" if sha256 is not None else name


def _environment(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    device = str(found.get("device_name") or found.get("cpu") or "")
    parts = [
        f"{found['threads']} threads of {found['cores']} cores" if found.get("threads") and found.get("cores") else "",
        bytes_text(found["memory_bytes"]) if found.get("memory_bytes") else "",
        str(found.get("platform") or ""),
        f"Python {found['python']}" if found.get("python") else "",
    ]
    versions = {**found.get("packages", {}), **found.get("settings", {})}
    return [
        ("machine", ", ".join(part for part in (device, *parts) if part)),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]


def _split(name: str, found: SplitStatistics) -> tuple[str, ...]:
    counts = (
        found.rows, found.examples, found.references, found.skipped_rows, found.truncated_inputs,
        found.truncated_targets, found.input_tokens, found.target_tokens,
    )  # fmt: skip
    return name, *(f"{count:,}" for count in counts), found.content_sha256[:DIGITS]


def _arm(arm: ArmRan) -> tuple[str, ...]:
    settings = ", ".join(f"{name}={_short(value)}" for name, value in arm.settings.items() if value is not None)
    return (
        arm.arm,
        arm.method,
        settings or NONE,
        count_text(arm.trainable) if arm.trainable is not None else NONE,
        arm.engine or NONE,
        f"{arm.steps:,}" if arm.steps is not None else NONE,
        f"{arm.examples:,}" if arm.examples is not None else NONE,
        ", ".join(map(str, arm.seeds)) or NONE,
        f"{100 * arm.busy:.0f} %" if arm.busy is not None else NONE,
    )


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
