"""What the arms have learnt: how much of an update, and of which rank, has how much of its gain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from tuneoff.records import Diagnosis, Interval, Record, UpdateLosses
from tuneoff.report.arms import Arm
from tuneoff.report.diagnosis import energy_held, norm_by_layer
from tuneoff.report.runs import OneRun
from tuneoff.score.groups import Groups
from tuneoff.score.update import gain_kept, loss_change

ENOUGH = 0.95  # of the gain: the lowest rank that keeps as much is suggested
LINEAR = ("q", "k", "v", "o", "gate", "up", "down")
HALF = 0.5  # of the change in linear layers: the kinds that hold as much are named


class CutPoint(Record):
    """The update of full fine-tuning, cut to `rank`.

    Attributes:
        rank: To which every matrix is cut.
        kept: The share of the gain in validation loss that is left; None where the whole update has no sure gain.
        energy: The share of ‖Δ‖² of all matrices that is left.
    """

    rank: int
    kept: Interval | None
    energy: float


class ScalePoint(Record):
    """The update of an arm times `scale`: how far the loss is from the original model's, in nats per token.

    `validation` is that on the validation split (below 0 where something was learnt; None where there is no such
    split), `retained` that on texts of other kinds (above 0 where something was forgotten).
    """

    scale: float
    validation: Interval | None
    retained: Interval


class UpdateCurves(Record):
    """The curves of one arm. Losses are averaged over its diagnosed seeds; intervals are over examples and texts.

    Attributes:
        arm: Its name.
        seeds: Which.
        examples: How many validation examples were scored; 0 where there is no validation split.
        cuts: By rank, of full fine-tuning alone.
        scales: By scale, from the original model (0) upwards.
        energy: By rank: the share of ‖Δ‖² of all matrices that is held.
        layers: ‖Δ‖ / ‖W‖ of each layer, by its name (`3`, `encoder 3`), at the first diagnosed seed.
        rank: The lowest rank tried that keeps 95 % of the gain; None where none does, or the gain is not sure.
        kinds: The fewest kinds of linear layers that hold half of ‖Δ‖² in such layers, the largest share first.
        refused: Why there is no more.
        seconds: What the diagnosis took.
    """

    arm: str
    seeds: list[int]
    examples: int
    cuts: list[CutPoint]
    scales: list[ScalePoint]
    energy: dict[int, float]
    layers: dict[str, float] = Field(default_factory=dict)
    rank: int | None
    kinds: list[str]
    refused: str | None
    seconds: float


def update_curves(run: OneRun) -> list[UpdateCurves]:
    """The curves of every arm of a run that was diagnosed."""
    return [_curves(arm, run.validation_labels) for arm in run.arms if arm.losses]


def _curves(arm: Arm, labels: Sequence[int] | None) -> UpdateCurves:
    first = next(iter(arm.losses.values()))
    alike = {seed: one for seed, one in arm.losses.items() if _same_work(one, first)}
    losses = list(alike.values())
    diagnoses = [arm.diagnoses[seed] for seed in alike if seed in arm.diagnoses]
    tokens = np.array(first.validation_tokens, dtype=np.float64)
    groups = Groups.of(labels[: len(tokens)] if labels is not None else None)
    original = _nats(losses, "scale", 0.0, "validation")
    trained = _nats(losses, "scale", 1.0, "validation")
    energy = _energy(diagnoses)
    cuts = []
    for rank in sorted({int(v.value) for v in first.variants if v.kind == "cut"}):
        nats = _nats(losses, "cut", rank, "validation")
        kept = gain_kept(original, trained, nats, groups) if len(tokens) > 1 else None
        cuts.append(CutPoint(rank=rank, kept=kept, energy=_energy_at(diagnoses, rank)))
    enough = [cut.rank for cut in cuts if cut.kept is not None and cut.kept.value >= ENOUGH]
    return UpdateCurves(
        arm=arm.name,
        seeds=list(alike),
        examples=len(tokens),
        cuts=cuts,
        scales=_scales(losses, tokens, groups),
        energy=energy,
        layers=norm_by_layer(diagnoses[0].modules) if diagnoses else {},
        rank=min(enough, default=None),
        kinds=_kinds(diagnoses),
        refused=first.refused or next((d.refused for d in diagnoses if d.refused is not None), None),
        seconds=sum(one.seconds for one in losses),
    )


def _same_work(one: UpdateLosses, other: UpdateLosses) -> bool:
    """Whether both are of the same variants, examples and texts: a diagnosis of all seeds may have been cut short."""
    marks = [(x.settings, x.validation_tokens, x.texts.sha256) for x in (one, other)]
    return marks[0] == marks[1]


def _scales(losses: Sequence[UpdateLosses], tokens: np.ndarray, groups: Groups | None) -> list[ScalePoint]:
    texts = np.array(losses[0].texts.tokens, dtype=np.float64)
    points = []
    for scale in sorted(v.value for v in losses[0].variants if v.kind == "scale"):
        changes = [
            loss_change(_nats(losses, "scale", 0.0, on), _nats(losses, "scale", scale, on), counted, own)
            if len(counted) > 1
            else None
            for on, counted, own in (("validation", tokens, groups), ("retained", texts, None))
        ]
        assert changes[1] is not None
        points.append(ScalePoint(scale=scale, validation=changes[0], retained=changes[1]))
    return points


def _nats(losses: Sequence[UpdateLosses], kind: Literal["scale", "cut"], value: float, on: str) -> np.ndarray:
    """(N): the losses of one variant on validation examples or retained texts, averaged over seeds."""
    found = [getattr(variant, on) for one in losses if (variant := one.variant(kind, value)) is not None]
    return np.array(found, dtype=np.float64).mean(0)


def _energy(diagnoses: Sequence[Diagnosis]) -> dict[int, float]:
    ranks = sorted({rank for d in diagnoses for m in d.modules for rank in m.energy})
    return {rank: _energy_at(diagnoses, rank) for rank in ranks}


def _energy_at(diagnoses: Sequence[Diagnosis], rank: int) -> float:
    held = [energy_held(d.modules, rank) for d in diagnoses if d.modules]
    return sum(held) / len(held) if held else 0.0


def _kinds(diagnoses: Sequence[Diagnosis]) -> list[str]:
    shares = dict.fromkeys(LINEAR, 0.0)
    for matrix in (m for d in diagnoses for m in d.modules if m.kind in shares):
        shares[matrix.kind] += matrix.share
    total, held, named = sum(shares.values()), 0.0, []
    for kind, share in sorted(shares.items(), key=lambda item: -item[1]):
        if share and held < HALF * total:
            named.append(kind)
            held += share
    return named


def advice(curves: UpdateCurves) -> list[str]:
    """What the curves of full fine-tuning suggest to try, in sentences; empty where they say nothing."""
    cuts = [cut for cut in curves.cuts if cut.kept is not None]
    if not cuts:
        return []
    shown = next((cut for cut in cuts if cut.rank == curves.rank), cuts[-1])
    assert shown.kept is not None
    kept, low, high = (100 * x for x in (shown.kept.value, shown.kept.low, shown.kept.high))
    share = f"{kept:.1f} % [{low:.1f}, {high:.1f}]"
    said = [
        f"With every matrix of its update cut to rank {shown.rank}, embeddings among them, {curves.arm} keeps {share} "
        "of its gain in validation loss."
    ]
    if curves.rank is None:
        said.append(f"No rank up to {cuts[-1].rank} keeps 95 % of it.")
    else:
        said.append(
            f"A LoRA of rank {curves.rank} on all linear layers may have room for most of it; `tuneoff plan RECIPE "
            f"--sweep r={curves.rank}` says what it costs. A cut update is not a trained LoRA: train one to know."
        )
    if curves.kinds:
        said.append(f"Of the change in linear layers half is in {' and '.join(curves.kinds)}.")
    return said
