"""Singular values and vectors of one matrix, and what they say of an update."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

RANKS = (1, 2, 4, 8, 16, 32, 64, 128)
STRONGEST = 16  # left singular vectors of an update that are compared with those of another
EXACT = 2048  # rows or columns up to which all singular values are computed
LARGEST = 256  # singular values of a larger matrix that are computed
SKETCH = 96  # singular values that are looked for first: an adapter's update seldom has more
REST = 1e-9  # of ‖Δ‖²: what an update may have besides, and is then called of low rank (fp32 rounds as much)
AMONG, COSINE = 10, 0.5  # an intruder is among so many, and less like any of the base's vectors


@dataclass(frozen=True)
class Spectrum:
    """The singular values of an update Δ (m, n).

    Attributes:
        values: The largest first, in fp64: all min(m, n), or the largest of a larger matrix or of one of low rank.
            A square is off by about 1e-7 · σ₁², so that values far below σ₁ / 1000 are noise.
        squared_norm: ‖Δ‖², the sum of the squares of all singular values.
        strongest: The left singular vectors of the largest values: (m, as many as are kept), in fp32.
    """

    values: Tensor
    squared_norm: float
    strongest: Tensor

    @property
    def stable_rank(self) -> float:
        """‖Δ‖² / σ₁² (Rudelson and Vershynin 2007)."""
        return self.squared_norm / float(self.values[0]) ** 2

    @property
    def entropy_rank(self) -> float:
        """exp(−Σ p ln p) with p = σ² / Σσ² (Roy and Vetterli 2007, on squares), of the values that are computed."""
        p = self.values.square() / self.values.square().sum()
        p = p[p > 0]
        return math.exp(-float((p * p.log()).sum()))

    def energy(self, rank: int) -> float:
        """The share of ‖Δ‖² that the `rank` largest singular values hold."""
        return min(1.0, float(self.values[:rank].square().sum()) / self.squared_norm)

    def rank_of(self, share: float) -> int:
        """The fewest singular values that hold `share` of ‖Δ‖². Of a large matrix, at most those computed."""
        held = self.values.square().cumsum(0) / self.squared_norm
        return min(int((held < share).sum()) + 1, len(held))


def spectrum(update: Tensor, keep: int = STRONGEST) -> Spectrum:
    """The spectrum of an update (m, n) that is not all 0, with its `keep` strongest left singular vectors.

    By the eigenvalues of the smaller Gram matrix in fp32: every figure here is made of squares, whose error is
    about σ₁² · 1e-7. Of a matrix with more than EXACT rows and columns, the largest values alone by a randomized method
    with a seed of its own (Halko et al. 2011). By that method, too, where it shows that the update is of low rank, as
    every adapter's is.
    """
    squared_norm = float(update.double().square().sum())
    found = _low_rank(update, squared_norm) if min(update.shape) > 2 * SKETCH else None
    if found is None:
        large = min(update.shape) > EXACT
        found = _largest(update, max(LARGEST, keep)) if large else left_vectors(update.float())
    values, left = found
    return Spectrum(values.double(), squared_norm, left[:, :keep].float())


def _low_rank(update: Tensor, squared_norm: float) -> tuple[Tensor, Tensor] | None:
    """The singular values and left vectors of an update whose rank is at most SKETCH: (SKETCH), (m, SKETCH).

    By the randomized range finder (Halko et al. 2011, algorithm 4.1). None where more than REST of ‖Δ‖² lies outside
    of the range that it finds, which is then not all there is.
    """
    generator = torch.Generator(update.device).manual_seed(0)
    probes = torch.randn(update.shape[1], SKETCH, generator=generator, device=update.device)
    basis, _ = torch.linalg.qr(update.float() @ probes)
    inside = basis.T @ update.float()
    if float((update - basis @ inside).double().square().sum()) > REST * squared_norm:
        return None
    left, values, _ = torch.linalg.svd(inside, full_matrices=False)
    return values, basis @ left


def _largest(update: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest singular values and their left vectors, by four steps of subspace iteration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        left, values, _ = torch.svd_lowrank(update.float(), q=count, niter=4)
    return values, left


def left_vectors(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """All singular values of a matrix (m, n), the largest first, and their left vectors: (k), (m, k).

    By the smaller Gram matrix; k is min(m, n). The vectors of values that are 0 are 0 where m > n.
    """
    rows, columns = matrix.shape
    wide = rows <= columns
    squares, vectors = torch.linalg.eigh(matrix @ matrix.T if wide else matrix.T @ matrix)
    values, vectors = squares.flip(0).clamp(min=0).sqrt(), vectors.flip(1)
    if wide:
        return values, vectors
    small = values <= values[0] * torch.finfo(matrix.dtype).eps ** 0.5
    return values, (matrix @ vectors / values.masked_fill(small, 1)).masked_fill(small, 0)


def intruders(vectors: Tensor, trained: Tensor) -> int:
    """How many of the strongest left singular vectors of a trained matrix (m, n) are unlike all of its original's.

    An intruder dimension (Shuttleworth et al. 2024, section 3): its absolute cosine with every left singular vector of
    the original, `vectors` (m, k), is below COSINE. Counted among the AMONG strongest. In fp32 and with `vectors` in
    half precision, which moves cosines by far less than what is asked of them.
    """
    strongest = left_vectors(trained.float())[1][:, :AMONG]
    return int(((vectors.to(strongest).T @ strongest).abs().amax(0) < COSINE).sum())


def shared(one: Tensor, other: Tensor) -> float:
    """‖UᵀV‖² / k of two sets of k orthonormal columns (m, k): 1 where they span the same space, 0 where orthogonal.

    The subspace similarity of Hu et al. 2021, equation 4. Of sets of different size the first columns are taken.
    """
    count = min(one.shape[1], other.shape[1])
    return float((one[:, :count].T @ other[:, :count]).square().sum()) / count
