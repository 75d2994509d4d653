"""What each arm costs beside the baseline: ratios of time from paired steps and batches, and of peaks of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from tuneoff.folder import TrialFolder
from tuneoff.records import PartTime, Record, TrialResult, read_times
from tuneoff.report.alike import unlike_fields
from tuneoff.report.arms import Arm
from tuneoff.score.ratios import FEWEST, Ratio, paired_ratio, ratio_over_seeds

AROUND = 10.0  # seconds

Quantity = Literal["train_seconds", "generate_seconds", "train_peak_bytes", "generate_peak_bytes", "process_peak_bytes"]


class Cost(Record):
    """What an arm takes of one quantity, as a ratio to what the baseline takes.

    Attributes:
        arm: Its name.
        baseline: The arm that it is compared with: full fine-tuning, or else the first arm that trains.
        quantity: Seconds of training or of generation, or bytes: the peak of a training step, of generation, and the
            most that a process of the trial held.
        ratio: The ratio, and its 95 % interval where there is more than one measurement.
        pairs: Pairs that the ratio is of: of optimizer steps or batches that both arms made, or of seeds.
        disturbed: Pairs that were left out since other programs took more than 5 % of the CPU or GPU time in one of
            them; where too few others are left, they are in the ratio, and it has no interval.
        unlike: Fields of the environment in which the trials differ.
    """

    arm: str
    baseline: str
    quantity: Quantity
    ratio: Ratio
    pairs: int
    disturbed: int
    unlike: list[str]


def costs(arms: Sequence[Arm]) -> list[Cost]:
    """Every quantity of every finished arm that both it and the baseline have."""
    baseline = baseline_of(arms)
    if baseline is None:
        return []
    found = []
    for arm in arms:
        trials = _paired_trials(arm, baseline) if arm is not baseline else []
        if not trials:
            continue
        unlike = list(dict.fromkeys(field for one, other in trials for field in unlike_fields(one[1], other[1])))
        made = [
            _of_time("train_seconds", trials, lambda folder: folder.step_times, "train"),
            _of_time("generate_seconds", trials, lambda folder: folder.batch_times, "evaluate"),
            _of_memory("train_peak_bytes", trials, _train_peak),
            _of_memory("generate_peak_bytes", trials, lambda r: r.memory.evaluate.peak if r.memory else None),
            _of_memory("process_peak_bytes", trials, lambda r: r.memory.process_peak if r.memory else None),
        ]
        found += [
            Cost(arm=arm.name, baseline=baseline.name, unlike=unlike, **cost) for cost in made if cost is not None
        ]
    return found


def baseline_of(arms: Sequence[Arm]) -> Arm | None:
    """Full fine-tuning where it has finished, else the first arm that trains and has."""
    trained = [arm for arm in arms if arm.done and arm.spec.trains]
    return next((arm for arm in trained if arm.spec.method == "full"), trained[0] if trained else None)


_Trial = tuple[TrialFolder, TrialResult]


def _paired_trials(arm: Arm, baseline: Arm) -> list[tuple[_Trial, _Trial]]:
    """The trials of both arms at the seeds that both have; what trains nothing is the same at every seed."""

    def of(which: Arm, seed: int) -> _Trial:
        return which.folders[seed], which.done[seed]

    if not arm.spec.trains:
        first, others = next(iter(arm.done), None), next(iter(baseline.done))
        return [(of(arm, first), of(baseline, others))] if first is not None else []
    return [(of(arm, seed), of(baseline, seed)) for seed in arm.done if seed in baseline.done]


def _of_time(
    quantity: Quantity, trials: Sequence[tuple[_Trial, _Trial]], times: Callable[[TrialFolder], Path], phase: str
) -> dict[str, object] | None:
    """From the parts that both arms did, without those of warm-up; from the phases' sums where parts are not known.

    Where the machine's speed was measured beside all parts, they are compared as if it had been even.
    """
    read = [(read_times(times(one[0])), read_times(times(other[0]))) for one, other in trials]
    if all(part.yardstick for both in read for parts in both for part in parts):
        read = [(at_even_speed(mine), at_even_speed(its)) for mine, its in read]
    settled = [_settled(mine, its) for mine, its in read]
    if any(settled):
        calm = [[pair for pair in pairs if not (pair[0].disturbed or pair[1].disturbed)] for pairs in settled]
        every, kept = (sum(map(len, some)) for some in (settled, calm))
        enough = kept >= min(FEWEST, every)
        ratio = paired_ratio([_seconds(pairs) for pairs in (calm if enough else settled)])
        if not enough:
            ratio = Ratio(value=ratio.value)
        return {"quantity": quantity, "ratio": ratio, "pairs": kept if enough else every, "disturbed": every - kept}
    sums = [tuple((result.seconds or {}).get(phase, 0.0) for _, result in pair) for pair in trials]
    return _of_seeds(quantity, [(a, b) for a, b in sums if a > 0 and b > 0])


def _settled(mine: Sequence[PartTime], its: Sequence[PartTime]) -> list[tuple[PartTime, PartTime]]:
    """The same parts of both, without those of warm-up unless there are no others."""
    theirs = {part.part: part for part in its}
    pairs = [(part, theirs[part.part]) for part in mine if part.part in theirs]
    return [pair for pair in pairs if not (pair[0].warm_up or pair[1].warm_up)] or pairs


def _seconds(pairs: Sequence[tuple[PartTime, PartTime]]) -> np.ndarray:
    return np.array([(one.seconds, other.seconds) for one, other in pairs], dtype=np.float64).reshape(-1, 2)


def at_even_speed(parts: Sequence[PartTime]) -> list[PartTime]:
    """The same parts, with what each took in units of the yardstick's seconds at the time, as its `seconds`.

    The yardstick at a part is the median of those of the parts that ended within ten seconds before and after it: one
    alone says as much of that instant as of the time around.
    """
    ends = np.cumsum([part.seconds for part in parts])
    measured = np.array([part.yardstick for part in parts], dtype=np.float64)
    first, last = np.searchsorted(ends, ends - AROUND), np.searchsorted(ends, ends + AROUND, "right")
    return [
        part.model_copy(update={"seconds": part.seconds / float(np.median(measured[begin:end]))})
        for part, begin, end in zip(parts, first, last, strict=True)
    ]


def _of_memory(
    quantity: Quantity,
    trials: Sequence[tuple[_Trial, _Trial]],
    peak: Callable[[TrialResult], int | None],
) -> dict[str, object] | None:
    pairs = [(peak(one[1]), peak(other[1])) for one, other in trials]
    return _of_seeds(quantity, [(float(a), float(b)) for a, b in pairs if a and b])


def _of_seeds(quantity: Quantity, pairs: Sequence[tuple[float, float]]) -> dict[str, object] | None:
    if not pairs:
        return None
    return {"quantity": quantity, "ratio": ratio_over_seeds(pairs), "pairs": len(pairs), "disturbed": 0}


def _train_peak(result: TrialResult) -> int | None:
    return result.memory.train.peak if result.memory and result.memory.train else None
