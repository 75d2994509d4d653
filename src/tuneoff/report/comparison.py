"""Arms → their comparison: one row an arm, what the scores show, and samples side by side."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from tuneoff.errors import RunFolderError
from tuneoff.folder import RunFolder
from tuneoff.recipe import Words, recipe_of
from tuneoff.records import Floor, Record, Resolved, Tuning
from tuneoff.report.alike import Unlike, differing
from tuneoff.report.arms import Arm, read_arms
from tuneoff.report.costs import Cost, costs
from tuneoff.report.forgotten import Forgotten, forgotten
from tuneoff.report.learnt import UpdateCurves, update_curves
from tuneoff.report.provenance import Provenance, provenance
from tuneoff.report.rows import ArmRow, arm_row
from tuneoff.report.runs import OneRun, RunArms, every_arm, with_common_originals
from tuneoff.report.side_by_side import spread
from tuneoff.report.tuning import Optima, optima
from tuneoff.report.weighing import evidence_of
from tuneoff.score.evidence import Evidence
from tuneoff.score.groups import Groups
from tuneoff.score.metrics import Metric, compared_fields, find_metrics
from tuneoff.signature import signature

SAMPLES = 3


class Sample(Record):
    """One example with its references and what each arm wrote (at its first finished seed)."""

    id: str
    input: str
    references: list[str]
    predictions: dict[str, str]


class Comparison(Record):
    """What a run has shown so far.

    Attributes:
        run: Its folder.
        words: What the recipe calls an example and an output.
        metrics: The metrics that every finished arm is scored by. The first is judged.
        examples: How many examples are scored.
        references: How many references they have in all.
        arms: One row an arm.
        evidence: Means, differences of all pairs, and non-inferiority, with their intervals.
        costs: Ratios of time and memory to those of the baseline.
        unlike: Fields of the environment in which arms differ.
        scored_differently: Why scores are not compared, where they are not: what differs in their signatures.
        floors: What texts that no model wrote score on these data.
        chat: Whether the model is asked by its own chat template.
        layout: How the data hold conversations, for people; None where they are texts.
        group: The column of the data that marks examples which depend on each other; None where there is none.
        originals: What must be known of original models that were converted from GGUF files, a sentence each.
        same_outputs: Groups of arms that wrote the same for every example.
        tuning: The searches for learning rates.
        learnt: By arm: how much of its update, and of which rank, has how much of its gain.
        forgotten: Losses on texts that have nothing to do with the task; None before the run is diagnosed.
        optima: Where the loss of these searches is lowest.
        samples: Three examples with what each arm wrote.
        signature: What all scores share; scores of different signatures are not compared.
        unfinished: Trials that have no result yet.
        warnings: What was noticed in the data.
        runs: The arms of each run, and what they are measured against.
        ran: For each run: the model, data, settings, software and machine, and its recipe.
    """

    run: str
    words: Words = Words()
    metrics: list[str]
    examples: int | None
    references: int | None
    arms: list[ArmRow]
    evidence: Evidence | None
    costs: list[Cost] = Field(default_factory=list)
    unlike: list[Unlike] = Field(default_factory=list)
    scored_differently: str | None = None
    floors: list[Floor] = Field(default_factory=list)
    chat: bool = False
    layout: str | None = None
    group: str | None = None
    originals: list[str] = Field(default_factory=list)
    same_outputs: list[list[str]]
    tuning: list[Tuning]
    learnt: list[UpdateCurves] = Field(default_factory=list)
    forgotten: Forgotten | None = None
    optima: Optima = Optima()
    samples: list[Sample]
    signature: str | None
    unfinished: list[str]
    warnings: list[str]
    ran: list[Provenance] = Field(default_factory=list)
    runs: list[RunArms] = Field(default_factory=list)


def compare(folder: RunFolder) -> tuple[Comparison, list[Arm]]:
    """Read the run as it stands. Raises RunFolderError where it is no run, or cannot be read."""
    arms, comparison = _compare([folder], prefixes=[""])
    return comparison, arms


def compare_runs(folders: Sequence[RunFolder]) -> tuple[Comparison, list[Arm]]:
    """The arms of several runs as one comparison, each named RUN/ARM.

    Raises RunFolderError where one is no run, or where their scores are not comparable, and says what differs.
    """
    names = [folder.path.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder.path) for folder in folders]
    arms, comparison = _compare(folders, prefixes=[f"{name}/" for name in names])
    if comparison.scored_differently is not None:
        raise RunFolderError(f"these runs cannot be compared: {comparison.scored_differently}")
    if not comparison.metrics:
        raise RunFolderError(
            "these runs cannot be compared: they have no metric in common. `tuneoff score RUN --metric M` adds one"
        )
    return comparison, arms


def _compare(folders: Sequence[RunFolder], prefixes: Sequence[str]) -> tuple[list[Arm], Comparison]:
    warnings: list[str] = []
    examples = references = None
    runs: list[OneRun] = []
    named: list[str] = []
    words = []
    floors: list[Floor] = []
    chat, layout, group = False, None, None
    originals: list[str] = []
    ran: list[Provenance] = []
    for folder, prefix in zip(folders, prefixes, strict=True):
        recipe = recipe_of(folder)
        told: list[str] = []
        resolved = Resolved.read(folder.resolved) if folder.resolved.is_file() else None
        own = read_arms(folder, recipe, resolved, told, prefix)
        groups = resolved.groups if resolved is not None else {}
        runs.append(
            OneRun(
                folder.path.resolve().name,
                own,
                recipe.evaluation.keep,
                Groups.of(groups.get(recipe.evaluation.split)),
                groups.get("validation"),
            )
        )
        group = group or recipe.data.group
        ran.append(provenance(folder, recipe, resolved, own, prefix))
        named += recipe.evaluation.metrics
        words.append(recipe.words)
        if resolved is not None:
            told += resolved.warnings
            floors = floors or resolved.floors
            chat = chat or resolved.chat is not None
            if resolved.gguf is not None:
                originals.append(f"{prefix}the original model is {resolved.gguf.file}, a {resolved.gguf.weights}")
            scored = resolved.data.get(recipe.evaluation.split)
            examples, references = (scored.examples, scored.references) if scored else (None, None)
            layout = layout or (scored.layout if scored else None)
        warnings += [warning for warning in told if warning not in warnings]
    if len(runs) > 1:
        runs = with_common_originals(runs, prefixes)
    arms = every_arm(runs)
    finished = [arm for arm in arms if arm.done]
    metrics = _metrics(finished, named)
    signatures = _signatures(finished, metrics)
    comparable = all(fields == next(iter(signatures.values())) for fields in signatures.values())
    return arms, Comparison(
        run=", ".join(str(folder.path) for folder in folders),
        words=words[0],
        metrics=[metric.name for metric in metrics],
        examples=examples,
        references=references,
        arms=[arm_row(arm, metrics) for arm in arms],
        evidence=evidence_of(runs, metrics, prefixes) if comparable else None,
        costs=[cost for run in runs for cost in costs(run.arms)],
        unlike=differing(arms),
        scored_differently=None if comparable else _what_differs(signatures),
        floors=floors,
        chat=chat,
        layout=layout,
        group=group,
        originals=list(dict.fromkeys(originals)),
        same_outputs=_same_outputs(finished),
        tuning=[arm.tuning.model_copy(update={"arm": arm.name}) for arm in arms if arm.tuning],
        learnt=[curves for run in runs for curves in update_curves(run)],
        forgotten=forgotten(arms),
        optima=optima(runs, warnings),
        samples=_samples(finished),
        signature=signature(next(iter(signatures.values()))) if signatures and comparable else None,
        unfinished=[f"{arm.name}/seed-{seed}" for seed, arm in _unfinished(arms)],
        warnings=warnings,
        ran=ran,
        runs=[run.roles for run in runs],
    )


def _unfinished(arms: Sequence[Arm]) -> list[tuple[int, Arm]]:
    """Trials without a result, seed by seed as they are run."""
    return sorted(
        ((seed, arm) for arm in arms for seed, result in arm.results.items() if result is None), key=lambda t: t[0]
    )


def _metrics(finished: Sequence[Arm], named: Sequence[str]) -> list[Metric]:
    """The metrics that all finished trials are scored by: those of the recipes first, then others that were added."""
    scores = [r.scores.metrics for arm in finished for r in arm.done.values() if r.scores is not None]
    common = set.intersection(*map(set, scores)) if scores else set(named)
    return find_metrics(name for name in dict.fromkeys([*named, *(scores[0] if scores else ())]) if name in common)


def _same_outputs(arms: Sequence[Arm]) -> list[list[str]]:
    groups: dict[tuple[str, ...], list[str]] = {}
    for arm in arms:
        assert arm.first is not None
        groups.setdefault(tuple(p.prediction for p in arm.predictions[arm.first.seed]), []).append(arm.name)
    return [group for group in groups.values() if len(group) > 1]


def _samples(arms: Sequence[Arm]) -> list[Sample]:
    """Examples spread evenly over the split that is scored."""
    written = {arm.name: arm.predictions[arm.first.seed] for arm in arms if arm.first}
    if not written:
        return []
    first = next(iter(written.values()))
    return [
        Sample(
            id=first[i].id,
            input=first[i].input,
            references=first[i].references,
            predictions={name: own[i].prediction for name, own in written.items() if i < len(own)},
        )
        for i in spread(range(len(first)), SAMPLES)
    ]


def _signatures(arms: Sequence[Arm], metrics: Sequence[Metric]) -> dict[str, dict[str, str]]:
    """What each trial's scores by `metrics` depend on, under the name of its arm (with its seed, where it has several).

    Trials of one comparison share all of it but the seed, which is left out.
    """
    return {
        arm.name if len(arm.done) == 1 else f"{arm.name} (seed {seed})": compared_fields(result.signature, metrics)
        for arm in arms
        for seed, result in arm.done.items()
        if result.signature
    }


def _what_differs(signatures: dict[str, dict[str, str]]) -> str:
    """The first two arms whose signatures differ, and the fields in which they do."""
    (one, before), *others = signatures.items()
    other, after = next((name, fields) for name, fields in others if fields != before)
    fields = [
        f"{key} ({before.get(key, 'none')} and {after.get(key, 'none')})"
        for key in {**before, **after}
        if before.get(key) != after.get(key)
    ]
    return f"{one} and {other} were scored differently, in {', '.join(fields)}"
