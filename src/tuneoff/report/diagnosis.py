"""Diagnoses as lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from tuneoff.records import Diagnosis, MatrixDiagnosis

HEADER = ("kind", "matrices", "‖Δ‖/‖W‖", "of ‖Δ‖²", "stable", "50 %", "90 %", "intruders")
ORDER = ("q", "k", "v", "o", "gate", "up", "down", "embeddings", "head")
SHOWN = (1, 4, 8, 16, 32, 64)


def diagnosis_lines(diagnosis: Diagnosis) -> list[str]:
    """What training did to an arm's weights: a table by kind of matrix, and what a low rank holds. 80 columns."""
    title = f"{diagnosis.arm} at seed {diagnosis.seed}"
    if diagnosis.refused is not None:
        return [f"{title}: not diagnosed, {diagnosis.refused}"]
    matrices = diagnosis.modules
    if not matrices:
        return [f"{title}: no matrix has changed, norms and biases alone"]
    rows = [HEADER, *kind_rows(diagnosis)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEADER))]
    lines = [f"{title}: medians by kind of matrix; ‖Δ‖² is that of all of it", ""]
    for row in rows:
        cells = (
            cell.ljust(w) if n == 0 else cell.rjust(w) for n, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    held = ", ".join(f"{rank}: {100 * energy_held(matrices, rank):.0f} %" for rank in SHOWN)
    lines += ["", f"‖Δ‖² held at rank {held}"]
    if diagnosis.vectors > 0.001:
        lines.append(f"norms, biases and what else is no matrix have {100 * diagnosis.vectors:.1f} % of ‖Δ‖²")
    return [*lines, *(said for said in (layers_text(matrices), overlap_text(diagnosis)) if said is not None)]


def kind_rows(diagnosis: Diagnosis) -> list[tuple[str, ...]]:
    """A row for each kind of matrix and one for all, under HEADER.

    Kinds of ORDER come first, then others as they stand in the model.
    """
    matrices = diagnosis.modules
    kinds = sorted(dict.fromkeys(m.kind for m in matrices), key=lambda kind: (*ORDER, kind).index(kind))
    return [*(_row(kind, [m for m in matrices if m.kind == kind]) for kind in kinds), _row("all", matrices)]


def norm_by_layer(matrices: Sequence[MatrixDiagnosis]) -> dict[str, float]:
    """‖Δ‖ / ‖W‖ of the matrices of each layer that training changed, by the layer's name, in the model's order."""
    changed: dict[str, list[float]] = {}
    for matrix in matrices:
        if matrix.layer is not None and matrix.relative_norm:
            sums = changed.setdefault(matrix.layer, [0.0, 0.0])
            sums[0] += matrix.share
            sums[1] += matrix.share / matrix.relative_norm**2  # ‖W‖² in the unit of `share`
    return {layer: (own / base) ** 0.5 for layer, (own, base) in changed.items()}


def layers_text(matrices: Sequence[MatrixDiagnosis]) -> str | None:
    """Which layers training changed most and least; None where fewer than two have changed."""
    norms = norm_by_layer(matrices)
    if len(norms) < 2:
        return None
    most, least = max(norms, key=norms.__getitem__), min(norms, key=norms.__getitem__)
    return f"‖Δ‖/‖W‖ by layer: most in {most} ({norms[most]:.2g}), least in {least} ({norms[least]:.2g})"


def overlap_text(diagnosis: Diagnosis) -> str | None:
    """How much of full fine-tuning's strongest directions an update has; None where they were not compared."""
    overlaps = [m.overlap for m in diagnosis.modules if m.overlap is not None]
    if not overlaps:
        return None
    own, random = (100 * median(values) for values in zip(*((o.value, o.random) for o in overlaps), strict=True))
    return f"of full's strongest directions it has {own:.0f} % (directions at random: {random:.1f} %)"


def energy_held(matrices: Sequence[MatrixDiagnosis], rank: int) -> float:
    """The share of all matrices' ‖Δ‖² that is kept where every update is cut to `rank`: between 0 and 1."""
    total = sum(m.share for m in matrices)
    kept = sum(m.share * m.energy.get(rank, 1.0) for m in matrices)
    return kept / total if total else 0.0


def _row(kind: str, matrices: Sequence[MatrixDiagnosis]) -> tuple[str, ...]:
    counted = [m.intruders for m in matrices if m.intruders is not None]
    return (
        kind,
        str(len(matrices)),
        f"{median(m.relative_norm for m in matrices):.2g}",
        f"{100 * sum(m.share for m in matrices):.1f} %",
        f"{median(m.stable_rank for m in matrices):.1f}",
        f"{median(m.rank50 for m in matrices):.0f}",
        f"{median(m.rank90 for m in matrices):.0f}",
        str(sum(counted)) if counted else "–",
    )
