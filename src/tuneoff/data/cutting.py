"""A prompt that is too long: which of its tokens are left out, so that the others stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

END_KEPT = 4  # of what is kept of a turn, one part in so many is its end: questions stand at a turn's beginning or end

Token = TypeVar("Token")
Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Place:
    """A part of a prompt that may be cut: a text of the data.

    Attributes:
        start: Its first character.
        end: The character after its last.
        first: Whether it is cut before places that are not.
        keeps_end: Whether it loses some of its middle, in place of its end.
    """

    start: int
    end: int
    first: bool = False
    keeps_end: bool = False


def cut(tokens: Sequence[Token], spans: Spans, places: Sequence[Place], limit: int) -> list[Token]:
    """`limit` of `tokens`, or all where they are no more.

    `spans` are the characters that each token stands for. A token that stands for a character outside of all places is
    kept, so that more than `limit` are returned where these alone are more. The longest place loses tokens first, until
    the next one is as long. A token is left out whole, and a character of several tokens may lose the last of them, as
    in the truncation of the tokenizers.
    """
    found = [_inside(place, spans) for place in places]
    room = max(0, limit - len(tokens) + sum(map(len, found)))
    gone: set[int] = set()
    for first in (False, True):  # the places that are cut first have the room that the others leave
        group = [(place, there) for place, there in zip(places, found, strict=True) if place.first == first]
        group.sort(key=lambda pair: len(pair[1]))
        for n, (place, there) in enumerate(group):
            kept = min(len(there), room // (len(group) - n))
            room -= kept
            end = kept // END_KEPT if place.keeps_end else 0
            gone.update(there[kept - end : len(there) - end])
    return [token for n, token in enumerate(tokens) if n not in gone]


def _inside(place: Place, spans: Spans) -> range:
    """The tokens from the first to the last that stand for characters of `place` alone."""
    inside = [n for n, (start, end) in enumerate(spans) if place.start <= start < end <= place.end]
    return range(inside[0], inside[-1] + 1) if inside else range(0)
