"""`data.split`: parts that are taken out of the training split, so that no input stands in two of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tuneoff.data.rows import Row
from tuneoff.errors import DataError


@dataclass(frozen=True)
class Parting:
    """How rows of the split `of` are given to it and to others.

    Attributes:
        of: The split that is parted; what is in no part stays with it.
        names: The names of the parts, and of each its share of the distinct inputs, or so many of them.
        seed: Another seed gives other parts.
        input: A row → what the model is asked, or None for a row that cannot be used: it stays. Raises DataError.
        group: A row → what marks the rows that belong together, which are never parted; None where there are none.
    """

    of: str
    names: Mapping[str, int | float]
    seed: int
    input: Callable[[Row], str | None]
    group: Callable[[Row], str | None] | None = None

    def parts(self, rows: Iterable[Row]) -> list[str]:
        """The split of each row. Raises DataError."""
        kept = list(rows)
        inputs = [self.input(row) for row in kept]
        groups = [self.group(row) for row in kept] if self.group is not None else None
        return [part or self.of for part in part_inputs(inputs, self.names, self.seed, groups)]

    def count(self, rows: Iterable[Row]) -> int:
        """How many distinct inputs rows have. Raises DataError."""
        return len({_mark(text, self.seed) for row in rows if (text := self.input(row)) is not None})


def part_inputs(
    inputs: Sequence[str | None],
    wanted: Mapping[str, int | float],
    seed: int,
    groups: Sequence[Hashable | None] | None = None,
) -> list[str | None]:
    """For each input the part that it is given to, or None.

    Inputs are the same whatever their case and spaces. A part has the `wanted` share of the distinct inputs, or so many
    of them; the same inputs, and those of one group, are never parted. Which are taken depends on the inputs and the
    seed, and not on their order. Raises DataError where a part would be empty, or nothing would be left.
    """
    marks = [_mark(text, seed) if text is not None else None for text in inputs]
    clusters = _Clusters()
    for place, mark in enumerate(marks):
        if mark is not None:
            group = groups[place] if groups is not None else None
            clusters.join(mark, mark if group is None else ("group", group))
    distinct = {mark for mark in marks if mark is not None}
    if not distinct:
        return [None] * len(inputs)
    first: dict[Hashable, bytes] = {}  # of each cluster its lowest mark, which is the same in any order
    for mark in sorted(distinct):
        first.setdefault(clusters.root(mark), mark)
    sizes = Counter(first[clusters.root(mark)] for mark in distinct)
    counts = {part: _count(part, share, len(distinct)) for part, share in wanted.items()}
    if sum(counts.values()) >= len(distinct):
        told = ", ".join(f"{part} {count:,}" for part, count in counts.items())
        raise DataError(f"data.split leaves nothing to train on: {told} of {len(distinct):,} distinct inputs")
    taken: dict[bytes, str] = {}
    for part, count in counts.items():
        room = count
        for mark in sorted(sizes):
            if mark not in taken and sizes[mark] <= room:
                taken[mark] = part
                room -= sizes[mark]
        if room == count:
            raise DataError(f"data.split: {part} would have {count:,} inputs, and every group has more")
    return [taken.get(first[clusters.root(mark)]) if mark is not None else None for mark in marks]


def _mark(text: str, seed: int) -> bytes:
    """What stands for an input: as good as a random number, and the same for the same input."""
    plain = " ".join(text.lower().split())
    return hashlib.blake2b(plain.encode(errors="surrogatepass"), digest_size=16, key=seed.to_bytes(8)).digest()


def _count(part: str, share: int | float, total: int) -> int:
    count = round(share * total) if isinstance(share, float) else share
    if count < 1:
        raise DataError(f"data.split: {part} would be empty: {share:g} of {total:,} distinct inputs")
    return count


class _Clusters:
    """Disjoint sets of what belongs together."""

    def __init__(self) -> None:
        self._above: dict[Hashable, Hashable] = {}

    def root(self, one: Hashable) -> Hashable:
        above = self._above.setdefault(one, one)
        while above != self._above[above]:
            above = self._above[one] = self._above[above]
        return above

    def join(self, one: Hashable, other: Hashable) -> None:
        self._above[self.root(one)] = self.root(other)
