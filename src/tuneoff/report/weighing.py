"""The scores of the arms of one run, or of several, as evidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tuneoff.recipe import KeepSpec
from tuneoff.report.arms import Arm
from tuneoff.report.runs import OneRun
from tuneoff.score.evidence import Evidence, Figures, weigh
from tuneoff.score.groups import Groups
from tuneoff.score.metrics import Metric


def evidence_of(runs: Sequence[OneRun], metrics: Sequence[Metric], prefixes: Sequence[str]) -> Evidence | None:
    """What the scores of all finished arms show; None before any arm has finished.

    Each run is judged by itself, as in its own report: its arms among each other and against its own baseline, with
    p-values that are adjusted within the run. Arms of the same name in several runs are compared besides, adjusted
    within that name.
    """
    found = [one for run in runs if (one := _of_run(run, metrics)) is not None]
    if len(runs) > 1:
        found += [
            one
            for same in _namesakes(runs, prefixes)
            if (one := _weighed(same, metrics, None, None, keep=None, groups=runs[0].groups)) is not None
        ]
    return _together(found) if found else None


def _of_run(run: OneRun, metrics: Sequence[Metric]) -> Evidence | None:
    roles = run.roles
    return _weighed(run.finished, metrics, roles.original, roles.baseline, run.keep, run.groups)


def _namesakes(runs: Sequence[OneRun], prefixes: Sequence[str]) -> list[list[Arm]]:
    """The finished arms that several runs have under the same name, trained in each of them."""
    by_name: dict[str, list[Arm]] = {}
    for run, prefix in zip(runs, prefixes, strict=True):
        for arm in run.finished:
            if arm.spec.trains:
                by_name.setdefault(arm.name.removeprefix(prefix), []).append(arm)
    return [same for same in by_name.values() if len(same) > 1]


def _weighed(
    arms: Sequence[Arm],
    metrics: Sequence[Metric],
    original: str | None,
    baseline: str | None,
    keep: float | KeepSpec | None,
    groups: Groups | None,
) -> Evidence | None:
    """The evidence of arms at the seeds that all of them have."""
    if not arms or not metrics:
        return None
    trained = [set(arm.done) for arm in arms if arm.spec.trains]
    seeds = sorted(set.intersection(*trained)) if trained else [next(iter(arms[0].done))]
    if not seeds:
        return None
    return weigh(
        {metric.name: _figures(arms, seeds, metric) for metric in metrics},
        [arm.name for arm in arms],
        seeds,
        original=original,
        baseline=baseline,
        keep=None if isinstance(keep, KeepSpec) else keep,
        margins={m.name: keep.points / m.scale for m in metrics} if isinstance(keep, KeepSpec) else None,
        groups=groups,
    )


def _figures(arms: Sequence[Arm], seeds: Sequence[int], metric: Metric) -> Figures:
    """What `metric` makes of every example that all arms wrote for at all of these seeds."""
    found = [[[p.scores[metric.name] for p in arm.predicted(seed)] for seed in seeds] for arm in arms]
    return Figures(
        values=np.array([[metric.values(own) for own in by_seed] for by_seed in found]),
        higher=metric.better == "higher",
        statistics=np.array(found, dtype=np.float64) if metric.corpus is not None else None,
        corpus=metric.corpus,
    )


def _together(found: Sequence[Evidence]) -> Evidence:
    """The evidence of several runs as one; an arm's mean is that of the run that it stands in first."""
    first = found[0]
    means = {arm: own for one in reversed(found) for arm, own in one.means.items()}
    by_seed = {arm: own for one in reversed(found) for arm, own in one.by_seed.items()}
    order = list(dict.fromkeys(arm for one in found for arm in one.means))
    return Evidence(
        examples=first.examples,
        groups=first.groups,
        seeds=min((one.seeds for one in found), key=len),
        resamples=max(one.resamples for one in found),
        means={arm: means[arm] for arm in order},
        by_seed={arm: by_seed[arm] for arm in order},
        differences=[d for one in found for d in one.differences],
        non_inferiority=[j for one in found for j in one.non_inferiority],
    )
