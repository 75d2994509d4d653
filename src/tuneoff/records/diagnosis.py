"""What training did to the weights of an arm, matrix by matrix."""

from __future__ import annotations

from pydantic import Field

from tuneoff.records.base import Record
from tuneoff.records.run import RunMark


class Overlap(Record):
    """How much of an arm's strongest directions another arm's update has, as a share between 0 and 1.

    Attributes:
        directions: How many left singular vectors of either update are compared.
        value: The squared projections of one set onto the other, divided by their number: 1 where both span the same.
        random: What directions at random would share: directions / rows of the matrix.
    """

    directions: int
    value: float
    random: float


class MatrixDiagnosis(Record):
    """The update Δ of one weight matrix W.

    Attributes:
        name: The parameter's name in the model; of experts that lie in one parameter each has its place, `NAME[3]`.
        kind: `q`, `k`, `v`, `o`, `gate`, `up`, `down`, `embeddings`, `positions`, `head`, or the module's own name.
        layer: Its layer as the model counts it, `encoder 3`; None outside of layers.
        shape: Rows and columns.
        relative_norm: ‖Δ‖ / ‖W‖, Frobenius norms.
        share: ‖Δ‖² as a share of that of all updates of the arm, vectors included.
        stable_rank: ‖Δ‖² / σ₁².
        entropy_rank: exp(−Σ p ln p) with p = σ² / Σσ², over the singular values that are computed: all of them, or the
            largest 256 of a matrix with more than 2,048 rows and columns.
        rank50: The fewest singular values that hold 50 % of ‖Δ‖².
        rank90: The fewest that hold 90 %.
        energy: By rank: the share of ‖Δ‖² that the largest singular values hold.
        intruders: How many of the ten strongest left singular vectors of W + Δ have a cosine below 0.5 with every one
            of W's (Shuttleworth et al. 2024); None where W is too large to have all of its vectors computed.
        overlap: With the update of full fine-tuning at the same seed; None where there is none.
    """

    name: str
    kind: str
    layer: str | None
    shape: tuple[int, int]
    relative_norm: float
    share: float
    stable_rank: float
    entropy_rank: float
    rank50: int
    rank90: int
    energy: dict[int, float]
    intruders: int | None
    overlap: Overlap | None = None


class Diagnosis(Record):
    """The update of one arm at one seed.

    Attributes:
        modules: The weight matrix of every module that training changed, in the model's order.
        vectors: The share of ‖Δ‖² that is in vectors: norms and biases.
        unchanged: How many matrices have not changed at all.
        floor: ‖rounding error‖ / ‖Δ‖ of all matrices together, as the weights were stored.
        refused: Why there is no diagnosis.
    """

    origin: RunMark | None = None
    arm: str
    seed: int
    modules: list[MatrixDiagnosis] = Field(default_factory=list)
    vectors: float = 0.0
    unchanged: int = 0
    floor: float | None = None
    refused: str | None = None
