"""What the arms have forgotten: their losses on texts that have nothing to do with the task, against the original's."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from pydantic import Field

from tuneoff.records import Record, RetainedMark, UpdateLosses, VariantLosses
from tuneoff.report.arms import Arm
from tuneoff.score.evidence import Evidence, Figures, PairedDifference, weigh

ORIGINAL = "the original model"
LOSS = "retained"
SURE = 0.05
ROUNDING = 1e-2  # by which losses of one model differ between engines and machines, at most


class Forgotten(Record):
    """The mean loss on the retained texts, in nats per token.

    Attributes:
        texts: Which texts.
        original: What the original model is called here: its arm, or `the original model` where it has none.
        evidence: Means of the original and of every arm, and differences of all pairs, with their intervals.
        by_kind: By arm and kind of text: how much the loss has risen, over all seeds.
        scores: By arm (the original first) and metric: the figures of what was written for retained inputs that have
            a target, over all seeds; empty where there are none.
    """

    texts: RetainedMark
    original: str
    evidence: Evidence
    by_kind: dict[str, dict[str, float]]
    scores: dict[str, dict[str, float]] = Field(default_factory=dict)

    def change(self, arm: str) -> PairedDifference:
        """How much higher the arm's loss is than the original's: above 0 where something was forgotten."""
        return next(d for d in self.evidence.differences if d.arm == arm and d.other == self.original)


def forgotten(arms: Sequence[Arm]) -> Forgotten | None:
    """What is known of it, at the seeds that all diagnosed arms have.

    None where there is nothing, and where arms were diagnosed on other texts or began with other models.
    """
    known = [arm for arm in arms if arm.losses]
    if not known:
        return None
    seeds = sorted(set.intersection(*(set(arm.losses) for arm in known)))
    every = [losses for arm in known for losses in arm.losses.values()]
    if not seeds or len({losses.texts.sha256 for losses in every}) > 1:
        return None
    mark = every[0].texts
    original = next((arm.name for arm in arms if arm.spec.method == "none"), ORIGINAL)
    before = np.array([[_nats(arm.losses[seed], 0.0) for seed in seeds] for arm in known])
    if not np.allclose(before, before[0], rtol=ROUNDING):
        return None
    after = np.array([[_nats(arm.losses[seed], 1.0) for seed in seeds] for arm in known])
    # Each arm against its own original: engines and machines differ in the last digits, and updates may be small.
    nats = np.concatenate([before[:1], before[0] + (after - before)])
    tokens = np.array(mark.tokens, dtype=np.float64)
    names = [original, *(arm.name for arm in known)]
    values = nats * len(tokens) / tokens.sum()  # whose mean over texts is the loss of all in nats per token
    evidence = weigh({LOSS: Figures(values, higher=False)}, names, seeds, original=original, baseline=None, keep=None)
    kinds = list(dict.fromkeys(mark.kinds))
    by_kind = {}
    for place, arm in enumerate(known, start=1):
        rise = (nats[place] - nats[0]).mean(0)
        chosen = {kind: np.array([own == kind for own in mark.kinds]) for kind in kinds}
        by_kind[arm.name] = {kind: float(rise[own].sum() / tokens[own].sum()) for kind, own in chosen.items()}
    first = [known[0].losses[seed] for seed in seeds]
    scores = {original: _scores(first, 0.0)}
    scores |= {arm.name: _scores([arm.losses[seed] for seed in seeds], 1.0) for arm in known}
    return Forgotten(
        texts=mark,
        original=original,
        evidence=evidence,
        by_kind=by_kind,
        scores=scores if scores[original] else {},
    )


def _scores(losses: Sequence[UpdateLosses], scale: float) -> dict[str, float]:
    found = [_variant(one, scale).scores for one in losses]
    return {name: fmean(own[name] for own in found) for name in found[0]}


def _nats(losses: UpdateLosses, scale: float) -> list[float]:
    return _variant(losses, scale).retained


def _variant(losses: UpdateLosses, scale: float) -> VariantLosses:
    variant = losses.variant("scale", scale)
    assert variant is not None
    return variant


def forgotten_sentences(found: Forgotten, baseline: str | None) -> list[str]:
    """Which arms forgot more than others, by pairs with `baseline` (full fine-tuning), or each against the original."""
    arms = [name for name in found.evidence.means if name != found.original]
    pairs = {(d.arm, d.other): d for d in found.evidence.differences}
    if baseline in arms and len(arms) > 1:
        return [
            _pair(found, arm, baseline, pairs.get((arm, baseline)) or pairs[baseline, arm])
            for arm in arms
            if arm != baseline
        ]
    return [_alone(found, arm) for arm in arms]


def _pair(found: Forgotten, arm: str, baseline: str, difference: PairedDifference) -> str:
    own, other = (found.change(name).difference.value for name in (arm, baseline))
    figures = f"{own:+.3f} against {other:+.3f} nats per token"
    if difference.p_holm > SURE:
        return f"{arm} and {baseline} are not shown to differ in what they forgot ({figures}, {_p(difference.p_holm)})."
    if max(own, other) <= 0:
        return f"On average over other texts the loss of neither {arm} nor {baseline} has risen ({figures})."
    return f"{arm} forgot {'less' if own < other else 'more'} than {baseline}: {figures} ({_p(difference.p_holm)})."


def _alone(found: Forgotten, arm: str) -> str:
    change = found.change(arm)
    value, low, high = change.difference.value, change.difference.low, change.difference.high
    figures = f"{value:+.3f} nats per token [{low:+.3f}, {high:+.3f}]"
    if change.p_holm > SURE or value <= 0:
        return f"{arm} is not shown to have forgotten anything of other texts ({figures})."
    return f"{arm} forgot something of other texts: {figures} ({_p(change.p_holm)})."


def texts_words(mark: RetainedMark) -> str:
    """What the texts are, and what of them is scored."""
    whose = "texts that ship with tuneoff" if mark.source == "builtin" else f"texts of {mark.source.rpartition('/')[2]}"
    how = {
        "whole": "the whole text",
        "rest": "the second half, after the first as the input",
        "target": "the target, after its input",
    }
    scored = " or ".join(how[one] for one in dict.fromkeys(mark.conditioned))
    return f"{len(mark.tokens)} {whose} ({scored}; {sum(mark.tokens):,} tokens)"


def _p(p: float) -> str:
    return f"p = {p:.2g}" if p >= 0.001 else "p < 0.001"
