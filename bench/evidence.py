"""Do the intervals cover and the tests hold their level? Simulated comparisons with a known truth.

    python bench/evidence.py [--comparisons 2000] [--dialogues 100 500]

A comparison is three arms on N dialogues. Scores are logit-normal, like ROUGE-1 (median 0.4, standard deviation
over dialogues 0.13), paired by a common part of the dialogue (correlation 0.6). Two truths: all arms equal, and arms
that keep exactly 97 % of the first. 1,000 resamples each, in place of the 10,000 of a run.
"""

from __future__ import annotations

import argparse
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from tuneoff.score import evidence
from tuneoff.score.evidence import weigh

ARMS = ["full", "lora", "dora"]
MEDIAN, SPREAD, CORRELATION = 0.4, 0.55, 0.6  # the spread is that of the logit
KEEP, RESAMPLES = 0.97, 1000


def scores(random: np.random.Generator, dialogues: int, kept: float) -> NDArray[np.float64]:
    """(3, 1, N): the arms after the first are scaled to `kept` of their mean."""
    common = random.normal(size=dialogues)
    own = random.normal(size=(3, dialogues))
    normal = np.sqrt(CORRELATION) * common + np.sqrt(1 - CORRELATION) * own
    drawn = 1 / (1 + np.exp(-(np.log(MEDIAN / (1 - MEDIAN)) + SPREAD * normal)))
    return (drawn * np.array([1.0, kept, kept])[:, None])[:, None, :]


def simulate(dialogues: int, comparisons: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    covered = kept_covered = single = family = shown = shown_any = 0
    for _ in range(comparisons):
        for kept in (1.0, KEEP):
            found = weigh(
                {"rouge1": scores(random, dialogues, kept)}, ARMS, [0], original=None, baseline="full", keep=KEEP
            )
            difference, judged = found.differences[0], found.non_inferiority
            if kept == 1.0:
                covered += difference.difference.low <= 0 <= difference.difference.high
                single += difference.p <= 0.05
                family += any(d.p_holm <= 0.05 for d in found.differences)
            else:
                kept_covered += judged[0].kept.low <= KEEP <= judged[0].kept.high
                shown += judged[0].p <= 0.05
                shown_any += any(j.holds for j in judged)
    figures = (covered, kept_covered, single, family, shown, shown_any)
    return [f"{100 * figure / comparisons:.1f} %" for figure in figures]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--comparisons", type=int, default=2000)
    parser.add_argument("--dialogues", type=int, nargs="+", default=[100, 500])
    arguments = parser.parse_args()
    print("| dialogues | coverage: difference | share kept | false positives: one pair | any of 3, Holm "
          "| non-inferiority at the margin, one arm | any of 2, Holm |")  # fmt: skip
    print("| --- " * 7 + "|")
    with patch.object(evidence, "RESAMPLES", RESAMPLES):
        for dialogues in arguments.dialogues:
            print(f"| {dialogues} | {' | '.join(simulate(dialogues, arguments.comparisons, dialogues))} |", flush=True)


if __name__ == "__main__":
    main()
