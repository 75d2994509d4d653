"""Do the intervals cover and the tests hold their level? Simulated comparisons with a known truth.

    python bench/evidence.py [--comparisons 2000] [--examples 500] [--seeds 1 3 5] [--deviations 0 0.5 1] [--kind rouge]

A comparison is three arms on N examples at S seeds. What an arm does to an example is a normal number, paired by a
common part of the example (correlation 0.6); half of the rest of its variance recurs at every seed, half is that of one
training. A kind of metric makes a score of it:

- `rouge`: logit-normal, like ROUGE-1 (median 0.4, standard deviation over examples 0.13). Each training shifts all
  scores of its arm by a normal number whose standard deviation is given in points (0.01);
- `exact:P`: 1 where the number is among the lowest share P, else 0, like exact match near 0 or 1;
- `loss`: log-normal, like mean token loss (median 1.5 nats, half of the examples from 1.1 to 2.1). Less is better.

Truths: all arms equal; arms that keep exactly 97 % of the first (of losses: that have 1 / 0.97 of it); and an arm that
differs by what the comparisons of equal arms called `detectable` (their median).
One arm is also compared with the original model, which is the same at every seed.
One seed: 1,000 resamples each, in place of the 10,000 of a run.

With `--group-size G` the examples come in groups of G, of which half of the variance of an arm on an example is the
group's. Two tables are printed: resampled by group, as with `data.group` in a recipe, and as if they were independent.
"""

from __future__ import annotations

import argparse
from collections import Counter
from statistics import median
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from tuneoff.score import evidence
from tuneoff.score.evidence import Evidence, Figures, weigh
from tuneoff.score.groups import Groups

ARMS = ["full", "lora", "dora"]
MEDIAN, SPREAD, CORRELATION = 0.4, 0.55, 0.6  # the spread is that of the logit
RECURRING = 0.5  # of the variance of an arm on an example
LOSS, LOSS_SPREAD = 1.5, 0.5  # nats; the spread is that of the logarithm
DOWN = "exact:0.9"  # a kind near 1, where an arm can only be worse
KEEP, RESAMPLES = 0.97, 1000
COLUMNS = ("coverage", "share kept", "one pair", "of 3, Holm", "pair with the original",
           "at the margin", "of 2, Holm", "found at `detectable`", "`detectable`")  # fmt: skip


def scores(
    random: np.random.Generator,
    kind: str,
    shape: tuple[int, int, int],
    deviation: float,
    *,
    original: bool = False,
    share: float = 1.0,
    added: float = 0.0,
    group_size: int = 1,
) -> NDArray[np.float64]:
    """Scores of `shape` (arms, S, N). In truth the others have `share` of the first's mean, the second `added` to it.

    `deviation` is that of trainings, in F-measure; `original`: the first has none.
    """
    arms, seeds, examples = shape
    common = random.normal(size=examples)
    recurring = random.normal(size=(arms, 1, examples))
    if group_size > 1:
        of_group = np.repeat(random.normal(size=(arms, 1, examples // group_size)), group_size, axis=2)
        recurring = of_group
    single = random.normal(size=(arms, seeds, examples))
    own = np.sqrt(RECURRING) * recurring + np.sqrt(1 - RECURRING) * single
    shift = deviation * random.normal(size=(arms, seeds, 1))
    if original:
        own[0], shift[0] = recurring[0], 0
    normal = np.sqrt(CORRELATION) * common + np.sqrt(1 - CORRELATION) * own
    factors, more = np.full((arms, 1, 1), share), np.zeros((arms, 1, 1))
    factors[0], more[1] = 1.0, added
    if kind.startswith("exact:"):
        level = np.clip(float(kind.removeprefix("exact:")) * factors + more, 0, 1)
        return (norm.cdf(normal) < level).astype(np.float64)
    if kind == "loss":
        return LOSS * np.exp(LOSS_SPREAD * normal) * factors + more
    drawn = 1 / (1 + np.exp(-(np.log(MEDIAN / (1 - MEDIAN)) + SPREAD * normal)))
    return (drawn + shift) * factors + more


def judged(
    values: NDArray[np.float64], baseline: str | None, groups: Groups | None, *, higher: bool = True
) -> Evidence:
    arms, seeds = ARMS[: len(values)], range(values.shape[1])
    figures = {"m": Figures(values, higher=higher)}
    return weigh(figures, arms, list(seeds), original=None, baseline=baseline, keep=KEEP, groups=groups)


def simulate(
    kind: str, seeds: int, examples: int, deviation: float, comparisons: int, size: int = 1, *, grouped: bool = False
) -> list[str]:
    groups = Groups.of([n // size for n in range(examples)]) if grouped else None
    higher = kind != "loss"
    margin = KEEP if higher else 1 / KEEP
    random = np.random.default_rng([seeds, examples, round(1e6 * deviation)])
    counts: Counter[str] = Counter()
    detectable = []
    for _ in range(comparisons):
        found = judged(scores(random, kind, (3, seeds, examples), deviation, group_size=size), None, groups).differences
        counts["coverage"] += found[0].difference.low <= 0 <= found[0].difference.high
        counts["one pair"] += found[0].p <= 0.05
        counts["of 3, Holm"] += any(d.p_holm <= 0.05 for d in found)
        detectable.append(found[0].detectable)

        values = scores(random, kind, (2, seeds, examples), deviation, original=True, group_size=size)
        counts["pair with the original"] += judged(values, None, groups).differences[0].p <= 0.05

        values = scores(random, kind, (3, seeds, examples), deviation, share=margin, group_size=size)
        shares = judged(values, "full", groups, higher=higher).non_inferiority
        counts["share kept"] += bool(shares) and shares[0].kept.low <= margin <= shares[0].kept.high
        counts["at the margin"] += bool(shares) and shares[0].p <= 0.05
        counts["of 2, Holm"] += any(j.holds for j in shares)
    shift = median(detectable)
    added = -shift if DOWN in kind else shift
    for _ in range(comparisons):
        values = scores(random, kind, (3, seeds, examples), deviation, added=added, group_size=size)
        counts["found at `detectable`"] += judged(values, None, groups).differences[0].p_holm <= 0.05
    return [f"{100 * counts[column] / comparisons:.1f} %" for column in COLUMNS[:-1]] + [f"{100 * shift:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--comparisons", type=int, default=2000)
    parser.add_argument("--examples", type=int, nargs="+", default=[500])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--deviations", type=float, nargs="+", default=[0.0, 0.5, 1.0], help="in points")
    parser.add_argument("--kind", default="rouge", help="rouge, exact:P or loss")
    parser.add_argument("--group-size", type=int, default=1, help="examples in a group that depend on each other")
    arguments = parser.parse_args()
    for grouped in (True, False) if arguments.group_size > 1 else (False,):
        if arguments.group_size > 1:
            print(f"\nresampled {'by group' if grouped else 'by example'}:\n")
        _table(arguments, grouped)


def _table(arguments: argparse.Namespace, grouped: bool) -> None:
    print(f"| examples | seeds | deviation | {' | '.join(COLUMNS)} |")
    print("| --- " * (3 + len(COLUMNS)) + "|")
    given = arguments.comparisons, arguments.group_size
    with patch.object(evidence, "RESAMPLES", RESAMPLES):
        for examples in arguments.examples:
            for seeds in arguments.seeds:
                for points in arguments.deviations:
                    cells = simulate(arguments.kind, seeds, examples, points / 100, *given, grouped=grouped)
                    print(f"| {examples} | {seeds} | {points:g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
