"""The diagnosis of a trained model: its weights against those that it began with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence

import torch
from torch import Tensor

from tuneoff.diagnose.spectrum import EXACT, RANKS, STRONGEST, intruders, left_vectors, shared, spectrum
from tuneoff.diagnose.stored import StoredWeights, matrices, weight_pairs
from tuneoff.records import Diagnosis, MatrixDiagnosis, Overlap

KINDS = {
    "q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o", "out_proj": "o",
    "gate_proj": "gate", "wi_0": "gate", "up_proj": "up", "wi_1": "up", "wi": "up", "fc1": "up",
    "down_proj": "down", "wo": "down", "fc2": "down",
    "embed_tokens": "embeddings", "shared": "embeddings", "wte": "embeddings", "lm_head": "head",
    "relative_attention_bias": "positions",
}  # fmt: skip
LAYERS = ("layers", "block", "h", "blocks")
LIMIT = 0.1  # of ‖rounding error‖ / ‖Δ‖: above it, what would be seen is the rounding


def diagnose(
    before: StoredWeights,
    after: StoredWeights,
    stored: torch.dtype,
    blank: Diagnosis,
    *,
    against: Mapping[str, Tensor] | None = None,
    bases: MutableMapping[str, Tensor] | None = None,
    cuts: Sequence[int] = (),
    device: torch.device | str = "cpu",
    report: Callable[[int, int], None] = lambda *_: None,
) -> tuple[Diagnosis, dict[str, Tensor]]:
    """`blank` with what training changed from `before` to `after`, whose parameters have the same names.

    `stored` is the dtype of the files with the trained weights: where its rounding is more than LIMIT of the update,
    the diagnosis is refused. `against` are the strongest directions of full fine-tuning's update. `cuts` are ranks that
    the update may be cut to: the energy at each is told beside that at RANKS. Weights are read and decomposed on
    `device` one parameter after another; `report` is told the parameters done and in all. `bases` keeps the left
    singular vectors of the original's matrices, of which other models of the same original have use: half as many bytes
    as those matrices in fp32, at most.

    Returns, too, the strongest left singular vectors of the update of every matrix that has changed, by its name: as
    many as the largest cut needs and at least STRONGEST, or all that there are (rows, vectors).
    """
    count, total, rounding = 0, 0.0, 0.0
    for _, old, new in weight_pairs(before, after, device):
        count, total = count + 1, total + _squared_norm(new - old)
        if not torch.equal(old, new):
            rounding += _squared_rounding(new, stored)
    if total == 0:
        return blank.model_copy(update={"refused": "no weight of the model has changed"}), {}
    floor = (rounding / total) ** 0.5
    if floor > LIMIT:
        name = str(stored).removeprefix("torch.")
        reason = f"the weights are stored in {name}, and its rounding is {100 * floor:.0f} % of the update"
        return blank.model_copy(update={"floor": floor, "refused": reason}), {}
    found: list[MatrixDiagnosis] = []
    directions: dict[str, Tensor] = {}
    vectors, unchanged = 0.0, 0
    bases = {} if bases is None else bases
    ranks, keep = sorted({*RANKS, *cuts}), max([STRONGEST, *cuts])
    for done, (parameter, old, new) in enumerate(weight_pairs(before, after, device), start=1):
        update = new - old
        parts = matrices(parameter, old, update)
        if not parts:
            vectors += _squared_norm(update) / total
        for name, base, change in parts:
            if not change.any():
                unchanged += 1
                continue
            if name not in bases and min(base.shape) <= EXACT:
                bases[name] = left_vectors(base)[1].to("cpu", torch.float16)
            theirs = None if against is None else against.get(name)
            matrix, directions[name] = _matrix(name, base, change, total, theirs, bases.get(name), keep, ranks)
            found.append(matrix)
        report(done, count)
    figures = {"modules": found, "vectors": vectors, "unchanged": unchanged, "floor": floor}
    return blank.model_copy(update=figures), directions


def kind_of(name: str) -> str:
    """The kind of a parameter by its name: `model.layers.3.self_attn.q_proj.weight` is a `q`."""
    module = name.partition("[")[0].removesuffix(".weight").rpartition(".")[2]
    return KINDS.get(module, module)


def layer_of(name: str) -> str | None:
    """The layer that a parameter is in, `3` or `encoder 3`; None outside of layers."""
    parts = name.split(".")
    for place, part in enumerate(parts[:-1]):
        if part in LAYERS and parts[place + 1].isdigit():
            stack = next((own for own in parts[:place] if own in ("encoder", "decoder")), None)
            return f"{stack} {parts[place + 1]}" if stack else parts[place + 1]
    return None


def _matrix(
    name: str,
    base: Tensor,
    update: Tensor,
    total: float,
    theirs: Tensor | None,
    vectors: Tensor | None,
    keep: int,
    ranks: Sequence[int],
) -> tuple[MatrixDiagnosis, Tensor]:
    found = spectrum(update, keep)
    overlap = None
    if theirs is not None:
        count = min(STRONGEST, theirs.shape[1], found.strongest.shape[1], found.rank_of(0.99))
        overlap = Overlap(
            directions=count,
            value=shared(found.strongest[:, :count], theirs[:, :count]),
            random=count / len(update),
        )
    diagnosis = MatrixDiagnosis(
        name=name,
        kind=kind_of(name),
        layer=layer_of(name),
        shape=(len(update), update.shape[1]),
        relative_norm=(found.squared_norm / max(_squared_norm(base), 1e-30)) ** 0.5,
        share=found.squared_norm / total,
        stable_rank=found.stable_rank,
        entropy_rank=found.entropy_rank,
        rank50=found.rank_of(0.5),
        rank90=found.rank_of(0.9),
        energy={rank: found.energy(rank) for rank in ranks if rank <= len(found.values)},
        intruders=None if vectors is None else intruders(vectors, base + update),
        overlap=overlap,
    )
    return diagnosis, found.strongest


def _squared_norm(x: Tensor) -> float:
    return float(x.double().square().sum())


def _squared_rounding(x: Tensor, dtype: torch.dtype) -> float:
    """The expected squared norm of the error that rounding to `dtype` makes.

    A weight of size 2^e · m, 1 ≤ m < 2, is off by a uniform error of 2^e · eps, whose square has the mean
    (2^e · eps)² / 12; over m, log-uniform, the mean of 1 / m² is 3 / (8 ln 2).
    """
    return _squared_norm(x) * torch.finfo(dtype).eps ** 2 / 12 * 0.541
