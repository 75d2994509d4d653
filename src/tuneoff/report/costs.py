"""What each arm costs beside the baseline: ratios of time from paired steps and batches, and of peaks of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal

import numpy as np

from tuneoff.folder import TrialFolder
from tuneoff.records import PartTime, Record, TrialResult, read_times
from tuneoff.report.alike import unlike_fields
from tuneoff.report.arms import Arm
from tuneoff.score.ratios import FEWEST, Ratio, paired_ratio, ratio_over_seeds

# Of a run, at most, in the bootstrap of times that are set in ratio to the machine's speed: a measurement of it, once a
# second, is of many parts, and errs for seconds.
BLOCKS = 8

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
        steps: The optimizer steps of the arm and of the baseline (means over the seeds), where these differ, as when
            a training stops early. The ratio of training time is that of the steps that both did.
        evened: Whether times are set in ratio as if the machine had been as fast for both arms: those of each part over
            the yardstick's at the time (`PartTime.yardstick`).
    """

    arm: str
    baseline: str
    quantity: Quantity
    ratio: Ratio
    pairs: int
    disturbed: int
    unlike: list[str]
    steps: tuple[float, float] | None = None
    evened: bool = False


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
            _of_training(trials),
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


def _of_training(trials: Sequence[tuple[_Trial, _Trial]]) -> dict[str, object] | None:
    """From the steps that both arms did; None where these are not known, and the sums are of other numbers of steps."""
    both = [(one[1].training, other[1].training) for one, other in trials]
    done = [(one.steps, other.steps) for one, other in both if one is not None and other is not None]
    alike = all(one == other for one, other in done)
    found = _of_time("train_seconds", trials, lambda folder: folder.step_times, "train", same_work=alike)
    if found is None or alike:
        return found
    return {**found, "steps": (fmean(one for one, _ in done), fmean(other for _, other in done))}


def _of_time(
    quantity: Quantity,
    trials: Sequence[tuple[_Trial, _Trial]],
    times: Callable[[TrialFolder], Path],
    phase: str,
    *,
    same_work: bool = True,
) -> dict[str, object] | None:
    """From the parts that both arms did, without those of warm-up.

    Where parts are not known, from the phases' sums, if these are of the `same_work`.
    """
    sums = [tuple((result.seconds or {}).get(phase, 0.0) for _, result in pair) for pair in trials]
    by_clock = _of_seeds(quantity, [(a, b) for a, b in sums if a > 0 and b > 0])
    settled = [_settled(read_times(times(one[0])), read_times(times(other[0]))) for one, other in trials]
    if not any(settled):
        return by_clock if same_work else None
    calm = [[pair for pair in pairs if not (pair[0].disturbed or pair[1].disturbed)] for pairs in settled]
    every, kept = (sum(map(len, some)) for some in (settled, calm))
    if kept < min(FEWEST, every):  # too few for an interval, and for the machine's speed
        value = paired_ratio([_seconds(pairs) for pairs in settled]).value
        return {"quantity": quantity, "ratio": Ratio(value=value), "pairs": every, "disturbed": every - kept}
    evened = _speed_is_known(calm)
    ratio = paired_ratio([_seconds(pairs, evened) for pairs in calm], most_blocks=BLOCKS if evened else None)
    return {"quantity": quantity, "ratio": ratio, "pairs": kept, "disturbed": every - kept, "evened": evened}


def _settled(mine: Sequence[PartTime], its: Sequence[PartTime]) -> list[tuple[PartTime, PartTime]]:
    """The same parts of both, without those of warm-up unless there are no others.

    None where one's first part ends elsewhere than the other's: these are not the same work, as where one search takes
    several batches at once.
    """
    if mine and its and mine[0].part != its[0].part:
        return []
    theirs = {part.part: part for part in its}
    pairs = [(part, theirs[part.part]) for part in mine if part.part in theirs]
    return [pair for pair in pairs if not (pair[0].warm_up or pair[1].warm_up)] or pairs


def _speed_is_known(runs: Sequence[Sequence[tuple[PartTime, PartTime]]]) -> bool:
    """Whether the machine's speed was measured beside every part, and in each arm often enough for an interval."""
    measured = [[pair[arm].yardstick for pairs in runs for pair in pairs] for arm in (0, 1)]
    return all(None not in some and len(set(some)) >= FEWEST for some in measured)


def _seconds(pairs: Sequence[tuple[PartTime, PartTime]], evened: bool = False) -> np.ndarray:
    """(N, 2): what each part took; `evened`, in units of what the yardstick took at the time."""
    both = [[part.seconds / (part.yardstick or 1.0) if evened else part.seconds for part in pair] for pair in pairs]
    return np.array(both, dtype=np.float64).reshape(-1, 2)


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
