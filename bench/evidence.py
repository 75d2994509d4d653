"""Do the intervals cover and the tests hold their level? Simulated comparisons with a known truth.

    python bench/evidence.py [--comparisons 2000] [--examples 500] [--seeds 1 3 5] [--deviations 0 0.5 1]

A comparison is three arms on N examples at S seeds. Scores are logit-normal, like ROUGE-1 (median 0.4, standard
deviation over examples 0.13), paired by a common part of the example (correlation 0.6). Half of the variance of
what an arm does to an example recurs at every seed, half is that of one training. Each training shifts all scores of
its arm by a normal number whose standard deviation is given in points (0.01). Truths: all arms equal; arms that keep
exactly 97 % of the first; and an arm that differs by what the comparisons of equal arms called `detectable` (their
median).
One arm is also compared with the original model, which is the same at every seed.
One seed: 1,000 resamples each, in place of the 10,000 of a run.
"""

from __future__ import annotations

import argparse
from collections import Counter
from statistics import median
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from tuneoff.score import evidence
from tuneoff.score.evidence import Evidence, Figures, weigh

ARMS = ["full", "lora", "dora"]
MEDIAN, SPREAD, CORRELATION = 0.4, 0.55, 0.6  # the spread is that of the logit
RECURRING = 0.5  # of the variance of an arm on an example
KEEP, RESAMPLES = 0.97, 1000
COLUMNS = ("coverage", "share kept", "one pair", "of 3, Holm", "pair with the original",
           "at the margin", "of 2, Holm", "found at `detectable`", "`detectable`")  # fmt: skip


def scores(
    random: np.random.Generator, arms: int, seeds: int, examples: int, deviation: float, *, original: bool = False
) -> NDArray[np.float64]:
    """(arms, S, N): equal in truth. `deviation` is that of trainings, in F-measure; `original`: the first has none."""
    common = random.normal(size=examples)
    recurring = random.normal(size=(arms, 1, examples))
    single = random.normal(size=(arms, seeds, examples))
    own = np.sqrt(RECURRING) * recurring + np.sqrt(1 - RECURRING) * single
    shift = deviation * random.normal(size=(arms, seeds, 1))
    if original:
        own[0], shift[0] = recurring[0], 0
    normal = np.sqrt(CORRELATION) * common + np.sqrt(1 - CORRELATION) * own
    drawn = 1 / (1 + np.exp(-(np.log(MEDIAN / (1 - MEDIAN)) + SPREAD * normal)))
    return drawn + shift


def judged(values: NDArray[np.float64], baseline: str | None) -> Evidence:
    arms, seeds = ARMS[: len(values)], range(values.shape[1])
    return weigh({"rouge1": Figures(values)}, arms, list(seeds), original=None, baseline=baseline, keep=KEEP)


def simulate(seeds: int, examples: int, deviation: float, comparisons: int) -> list[str]:
    random = np.random.default_rng([seeds, examples, round(1e6 * deviation)])
    counts: Counter[str] = Counter()
    detectable = []
    for _ in range(comparisons):
        found = judged(scores(random, 3, seeds, examples, deviation), None).differences
        counts["coverage"] += found[0].difference.low <= 0 <= found[0].difference.high
        counts["one pair"] += found[0].p <= 0.05
        counts["of 3, Holm"] += any(d.p_holm <= 0.05 for d in found)
        detectable.append(found[0].detectable)

        values = scores(random, 2, seeds, examples, deviation, original=True)
        counts["pair with the original"] += judged(values, None).differences[0].p <= 0.05

        values = scores(random, 3, seeds, examples, deviation)
        values[1:] *= KEEP
        shares = judged(values, "full").non_inferiority
        counts["share kept"] += bool(shares) and shares[0].kept.low <= KEEP <= shares[0].kept.high
        counts["at the margin"] += bool(shares) and shares[0].p <= 0.05
        counts["of 2, Holm"] += any(j.holds for j in shares)
    size = median(detectable)
    for _ in range(comparisons):
        values = scores(random, 3, seeds, examples, deviation)
        values[1] += size
        counts["found at `detectable`"] += judged(values, None).differences[0].p_holm <= 0.05
    return [f"{100 * counts[column] / comparisons:.1f} %" for column in COLUMNS[:-1]] + [f"{100 * size:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--comparisons", type=int, default=2000)
    parser.add_argument("--examples", type=int, nargs="+", default=[500])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--deviations", type=float, nargs="+", default=[0.0, 0.5, 1.0], help="in points")
    arguments = parser.parse_args()
    print(f"| examples | seeds | deviation | {' | '.join(COLUMNS)} |")
    print("| --- " * (3 + len(COLUMNS)) + "|")
    with patch.object(evidence, "RESAMPLES", RESAMPLES):
        for examples in arguments.examples:
            for seeds in arguments.seeds:
                for points in arguments.deviations:
                    cells = simulate(seeds, examples, points / 100, arguments.comparisons)
                    print(f"| {examples} | {seeds} | {points:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
