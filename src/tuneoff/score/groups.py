"""Examples that belong together: of one document, one user, one situation. They are drawn together, or not at all.

What is learnt from dependent examples as if they were independent is taken to be surer than it is. So a resample draws
whole groups (the cluster bootstrap: Field and Welsh 2007; Cameron, Gelbach and Miller 2008), a test by exchange turns
the signs of a whole group, and a spread is that between groups.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuneoff.score.resampling import Array


@dataclass(frozen=True)
class Groups:
    """The groups of N examples.

    Attributes:
        order: (N) The examples, group by group.
        starts: (G) Where in `order` each group begins.
        sizes: (G) How many examples each group has.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    sizes: Array

    @classmethod
    def of(cls, labels: Sequence[Hashable] | None) -> Groups | None:
        """The groups of examples with these labels, in the order of their first examples.

        None where there are no labels, or every example is a group of its own: then all is as without groups.
        """
        if labels is None or len(set(labels)) == len(labels):
            return None
        numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
        index = np.array([numbers[label] for label in labels])
        sizes = np.bincount(index)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        return cls(np.argsort(index, kind="stable"), starts, sizes.astype(np.float64))

    def __len__(self) -> int:
        return len(self.starts)

    def sums(self, values: Array, axis: int = -1) -> Array:
        """`values` summed over the examples of each group, along `axis`: N becomes G."""
        return np.add.reduceat(np.take(values, self.order, axis), self.starts, axis)

    def spread_values(self, values: Array) -> Array:
        """(…, G) from (…, N): a value for each group, whose mean is that of the examples.

        Their variance over G is that of a mean over all examples where groups are drawn, by linearization of the ratio
        of a group's sum to its size: y = m + G / N · (sum - size · m), with m the mean over all examples.
        """
        mean = values.mean(-1, keepdims=True)
        return mean + len(self) / values.shape[-1] * (self.sums(values) - self.sizes * mean)
