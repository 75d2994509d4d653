"""Arms → their comparison: one row an arm, what the scores show, and samples side by side."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from pydantic import Field

from tuneoff.errors import RunFolderError
from tuneoff.folder import RunFolder
from tuneoff.recipe import KeepSpec, Words, recipe_of
from tuneoff.records import BUSY, Checks, Floor, KeptStep, Parameters, Range, Record, Resolved, Tuning, read_times
from tuneoff.report.alike import Unlike, differing
from tuneoff.report.arms import Arm, read_arms
from tuneoff.report.costs import Cost, costs
from tuneoff.report.forgotten import Forgotten, forgotten
from tuneoff.report.learnt import UpdateCurves, update_curves
from tuneoff.report.provenance import Provenance, provenance
from tuneoff.report.side_by_side import spread
from tuneoff.report.tuning import Optima, optima
from tuneoff.score.evidence import Evidence, Figures, weigh
from tuneoff.score.metrics import Metric, compared_fields, find_metrics
from tuneoff.signature import signature

SAMPLES = 3


class ArmRow(Record):
    """One arm, averaged over its finished seeds. None where it was not measured.

    Attributes:
        arm: Its name.
        method: `none`, `full` or peft's name.
        seeds: The seeds that have finished.
        engine: The engine that computed it.
        checks: What each finished trial checked on itself.
        parameters: Numbers of trainable and of all parameters.
        train_seconds: The training alone.
        total_seconds: All phases, without the measuring and the checks.
        generate_seconds: The generation alone, without loading and scoring.
        train_peak_bytes: The peak of a training step, over what the process held before it loaded the model.
        generate_peak_bytes: The peak of generation, over the same, in a process that does nothing else.
        process_peak_bytes: The most that a process of the trial held in any phase, libraries included.
        busy: The share of CPU or GPU time that other programs took while it was trained (`train`) or wrote
            (`evaluate`), where it was more than 5 %.
        predicted_peak_bytes: What the plan said of `train_peak_bytes`.
        predicted_seconds: What the plan said of the seconds.
        scores: The figure of each metric of the comparison, by name.
        length_ratio: Words written over words of the references.
        empty_outputs: Outputs without text, over all seeds.
        truncated_outputs: Outputs that reached `max_new_tokens` without an end, over all seeds.
        failures: How trials died, a line each.
        kept: Which step's weights each finished trial kept, where those with the lowest validation loss are.
    """

    arm: str
    method: str
    seeds: list[int]
    engine: str | None = None
    checks: tuple[Checks, ...] = ()
    parameters: Parameters | None
    train_seconds: float | None
    total_seconds: float | None
    generate_seconds: float | None = None
    train_peak_bytes: float | None
    generate_peak_bytes: float | None
    process_peak_bytes: float | None = None
    busy: dict[str, float] = Field(default_factory=dict)
    predicted_peak_bytes: int | None = None
    predicted_seconds: dict[str, Range] | None = None
    scores: dict[str, float] | None
    length_ratio: float | None
    empty_outputs: int
    truncated_outputs: int
    failures: list[str]
    kept: tuple[KeptStep, ...] = ()


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
    arms: list[Arm] = []
    warnings: list[str] = []
    examples = references = None
    keep = []
    named: list[str] = []
    words = []
    floors: list[Floor] = []
    chat, layout = False, None
    originals: list[str] = []
    ran: list[Provenance] = []
    for folder, prefix in zip(folders, prefixes, strict=True):
        recipe = recipe_of(folder)
        told: list[str] = []
        resolved = Resolved.read(folder.resolved) if folder.resolved.is_file() else None
        own = read_arms(folder, recipe, resolved, told, prefix)
        arms += own
        ran.append(provenance(folder, recipe, resolved, own, prefix))
        keep.append(recipe.evaluation.keep)
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
        arms=[_row(arm, metrics) for arm in arms],
        evidence=_evidence(finished, metrics, keep) if comparable else None,
        costs=costs(arms),
        unlike=differing(arms),
        scored_differently=None if comparable else _what_differs(signatures),
        floors=floors,
        chat=chat,
        layout=layout,
        originals=list(dict.fromkeys(originals)),
        same_outputs=_same_outputs(finished),
        tuning=[arm.tuning.model_copy(update={"arm": arm.name}) for arm in arms if arm.tuning],
        learnt=update_curves(arms),
        forgotten=forgotten(arms),
        optima=optima(arms, warnings),
        samples=_samples(finished),
        signature=signature(next(iter(signatures.values()))) if signatures and comparable else None,
        unfinished=[f"{arm.name}/seed-{seed}" for seed, arm in _unfinished(arms)],
        warnings=warnings,
        ran=ran,
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


def _row(arm: Arm, metrics: Sequence[Metric]) -> ArmRow:
    done = list(arm.done.values())
    scores = [r.scores for r in done if r.scores is not None]
    return ArmRow(
        arm=arm.name,
        method=arm.spec.method,
        seeds=[r.seed for r in done],
        engine=done[0].engine if done else None,
        checks=tuple(r.checks for r in done if r.checks is not None),
        parameters=done[0].parameters if done else None,
        train_seconds=_mean([r.seconds["train"] for r in done if r.seconds]) if arm.spec.trains else None,
        total_seconds=_mean([_work_seconds(r.seconds) for r in done if r.seconds]),
        train_peak_bytes=_mean([r.memory.train.peak for r in done if r.memory and r.memory.train]),
        generate_seconds=_mean([r.seconds["evaluate"] for r in done if r.seconds]),
        generate_peak_bytes=_mean([r.memory.evaluate.peak for r in done if r.memory]),
        process_peak_bytes=_mean([r.memory.process_peak for r in done if r.memory]),
        busy={phase: share for phase in ("train", "evaluate") if (share := _busy(arm, phase)) > BUSY},
        predicted_peak_bytes=arm.planned.longest.peak if arm.planned and arm.planned.longest else None,
        predicted_seconds=arm.planned.seconds if arm.planned else None,
        scores={m.name: fmean(m.of_trial(s.metrics[m.name]) for s in scores) for m in metrics} if scores else None,
        length_ratio=_mean([s.length_ratio for s in scores]),
        empty_outputs=sum(s.empty_outputs for s in scores),
        truncated_outputs=sum(s.truncated_outputs for s in scores),
        failures=[
            f"seed {r.seed}: {r.failure.kind}: {r.failure.message}" for r in arm.results.values() if r and r.failure
        ],
        kept=tuple(r.training.kept for r in done if r.training is not None and r.training.kept is not None),
    )


def _busy(arm: Arm, phase: str) -> float:
    """The largest share of CPU or GPU time that others took in a phase, over the finished seeds; 0 where none is known.

    A training that was resumed has its load in the times of its steps alone.
    """
    shares = [0.0]
    for seed, result in arm.done.items():
        load = (result.load or {}).get(phase)
        shares += [share for share in (load.others, load.gpu_others) if share is not None] if load else []
        steps = read_times(arm.folders[seed].step_times) if phase == "train" else []
        known = [(step.seconds, step.others) for step in steps if step.others is not None]
        if known:
            shares.append(sum(seconds * share for seconds, share in known) / sum(seconds for seconds, _ in known))
    return max(shares)


def _work_seconds(seconds: dict[str, float]) -> float:
    """The seconds of all phases but those in which the trial is measured and checked."""
    return sum(value for phase, value in seconds.items() if phase not in ("measure", "check"))


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where there is nothing, or a part was not measured."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _strictest(keep: Sequence[float | KeepSpec], metric: Metric, full: float | None) -> float | KeepSpec:
    """The smallest margin of several runs, where the baseline's figure by `metric` is `full`."""

    def margin(spec: float | KeepSpec) -> float:
        if isinstance(spec, KeepSpec):
            return spec.points / metric.scale
        return (1 - spec if metric.better == "higher" else 1 / spec - 1) * (1.0 if full is None else full)

    return min(keep, key=margin)


def _figures(arms: Sequence[Arm], seeds: Sequence[int], metric: Metric) -> Figures:
    """What `metric` makes of every example that all arms wrote for at all of these seeds."""
    found = [[[p.scores[metric.name] for p in arm.predicted(seed)] for seed in seeds] for arm in arms]
    return Figures(
        values=np.array([[metric.values(own) for own in by_seed] for by_seed in found]),
        higher=metric.better == "higher",
        statistics=np.array(found, dtype=np.float64) if metric.corpus is not None else None,
        corpus=metric.corpus,
    )


def _evidence(arms: Sequence[Arm], metrics: Sequence[Metric], asked: Sequence[float | KeepSpec]) -> Evidence | None:
    """What the scores of all finished arms show, at the seeds that all of them have."""
    if not arms or not metrics:
        return None
    trained = [set(arm.done) for arm in arms if arm.spec.trains]
    seeds = sorted(set.intersection(*trained)) if trained else [next(iter(arms[0].done))]
    if not seeds:
        return None
    by_method = {arm.spec.method: arm.name for arm in reversed(arms)}
    names = [arm.name for arm in arms]
    figures = {metric.name: _figures(arms, seeds, metric) for metric in metrics}
    full = names.index(by_method["full"]) if "full" in by_method else None
    baseline = None if full is None else float(figures[metrics[0].name].values[full].mean())
    keep = _strictest(asked, metrics[0], baseline)
    return weigh(
        figures,
        names,
        seeds,
        original=by_method.get("none"),
        baseline=by_method.get("full"),
        keep=None if isinstance(keep, KeepSpec) else keep,
        margins={m.name: keep.points / m.scale for m in metrics} if isinstance(keep, KeepSpec) else None,
    )


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
