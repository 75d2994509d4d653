"""What is asked in pretraining: missing spans, lines to be found, reports, the facts and the gist of a dialogue."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from affairs import Affairs
from corpus import Document
from facts import state_facts
from reported import report

NOISE, SPAN = 0.15, 3  # Raffel et al. 2020, section 3.3.4: share of tokens taken out, mean length of a span
# Tasks are marked, not asked for in words: what a prompt in words is worth is for fine-tuning to show.
FACTS_PREFIX, REPORT_PREFIX, FIND_PREFIX, GIST_PREFIX = "facts: ", "report: ", "find {}: ", "gist: "
COPY, GIST = 0.02, 0.45  # shares of examples that come of no document
FACTS, REPORT, FIND = 0.15, 0.4, 0.1  # shares of the others, where they allow for it; the rest is span corruption
PARTS = (0.3, 0.5, 1.0)  # of the room for a source
LINE = range(3, 9)  # tokens of a line to be copied
CONTENT = re.compile(r"[A-Za-z][A-Za-z']{3,}|\d[\d:.]*")


@dataclass(frozen=True)
class Vocabulary:
    """The ids that the objectives write: `sentinels` in order; `words` are the pieces that are no sentinels."""

    sentinels: list[int]
    eos: int
    words: range


@dataclass(frozen=True)
class Encoded:
    """A document in tokens: one list of ids a unit."""

    document: Document
    units: list[list[int]]


Example = tuple[list[int], list[int]]


class Objectives:
    """Examples: (source ids, target ids), both ended by `eos`."""

    def __init__(self, encode: Callable[[str], list[int]], vocabulary: Vocabulary, affairs: Affairs) -> None:
        self.encode = encode
        self.vocabulary = vocabulary
        self.affairs = affairs

    def draw(self, encoded: Encoded, rng: random.Random, source: int, target: int) -> Example:
        """One example of at most `source` and `target` tokens: of a document, of an affair, or of random tokens."""
        lot = rng.random()
        if lot < COPY:
            return self.copy(rng, source // 3)
        example = None
        if encoded.document.gist is not None:
            example = self._gist(encoded.document.units, encoded.document.gist, source)
        elif lot < COPY + GIST:
            example = self._gist(*self.affairs.draw(rng), source)
        else:
            example = self._of_document(encoded, rng, source)
        inputs, outputs = example or self._spans(encoded, rng, source)
        eos = self.vocabulary.eos
        return [*inputs[: source - 1], eos], [*outputs[: target - 1], eos]

    def _of_document(self, encoded: Encoded, rng: random.Random, source: int) -> Example | None:
        """A dialogue's facts take all of it; what can be done with a part of a text mostly sees a part, for speed."""
        lot = rng.random()
        if lot < FACTS:
            return self._facts(encoded, rng, source)
        source = round(source * rng.choice(PARTS))
        if lot < FACTS + REPORT:
            return self._report(encoded, rng, source)
        if lot < FACTS + REPORT + FIND:
            return self._find(encoded, rng, source)
        return self._spans(encoded, rng, source)

    def copy(self, rng: random.Random, room: int) -> Example:
        """Lines of tokens drawn from the whole vocabulary, in at most `room`, and of one of them the first token.

        That line is asked for. Where it stands is drawn too, so that it can be found by what it says alone.
        """
        lines: list[list[int]] = []
        left = rng.randint(room // 2, room - 3)
        while left > LINE[-1] + 1 or not lines:
            lines.append(rng.choices(self.vocabulary.words, k=rng.choice(LINE)))
            left -= len(lines[-1]) + 1
        wanted = rng.choice(lines)
        separator = self.vocabulary.sentinels[0]
        source = [wanted[0], *(token for line in lines for token in (separator, *line)), self.vocabulary.eos]
        return source, [*wanted, self.vocabulary.eos]

    def _gist(self, units: list[str], gist: str, room: int) -> Example | None:
        """A whole dialogue, and its gist; None where it does not fit."""
        inputs = self.encode(f"{GIST_PREFIX}{' '.join(units)}")
        return (inputs, self.encode(gist)) if len(inputs) < room else None

    def _facts(self, encoded: Encoded, rng: random.Random, room: int) -> Example | None:
        """The whole dialogue, and what was asked for; None where it does not fit, since facts would be missing."""
        document = encoded.document
        inputs = [*self.encode(FACTS_PREFIX), *(token for unit in encoded.units for token in unit)]
        if not document.facts or len(inputs) >= room:
            return None
        stated = state_facts(document.facts, document.units, rng)
        return None if stated is None else (inputs, self.encode(stated))

    def _report(self, encoded: Encoded, rng: random.Random, room: int) -> Example | None:
        """Consecutive turns, and what is said in them in reported speech."""
        prefix = self.encode(REPORT_PREFIX)
        chosen = self._window(encoded, room - len(prefix) - 1, rng)
        told = report([encoded.document.units[n] for n in chosen])
        return None if told is None else (prefix + self._tokens(encoded, chosen), self.encode(told))

    def _find(self, encoded: Encoded, rng: random.Random, room: int) -> Example | None:
        """A unit is to be written out that some of its words are given of: reading, and copying."""
        chosen = self._window(encoded, room - 16, rng)
        wanted = rng.choice(chosen)
        known = sorted(set(CONTENT.findall(encoded.document.units[wanted].partition(": ")[2])))
        if not known or len(chosen) < 2:
            return None
        prefix = FIND_PREFIX.format(", ".join(rng.sample(known, min(len(known), rng.randint(1, 3)))))
        return self.encode(prefix) + self._tokens(encoded, chosen), encoded.units[wanted]

    def _spans(self, encoded: Encoded, rng: random.Random, room: int) -> Example:
        """Spans taken out at random, each marked by a sentinel and written after it."""
        tokens = self._tokens(encoded, self._window(encoded, int(room * 1.1), rng))[: int(room * 1.1)]
        count = max(1, round(len(tokens) * NOISE))
        spans = min(max(1, round(count / SPAN)), len(self.vocabulary.sentinels), max(1, len(tokens) - count))
        lengths = _split(count, spans, rng)
        gaps = _split(max(len(tokens) - count, spans), spans, rng)
        source: list[int] = []
        target: list[int] = []
        at = 0
        for sentinel, gap, length in zip(self.vocabulary.sentinels, gaps, lengths, strict=False):
            source += [*tokens[at : at + gap], sentinel]
            target += [sentinel, *tokens[at + gap : at + gap + length]]
            at += gap + length
        return source + tokens[at:], target

    def _window(self, encoded: Encoded, room: int, rng: random.Random) -> list[int]:
        """Consecutive units of at most `room` tokens, from a place drawn at random; at least one, however long."""
        lengths = [len(unit) for unit in encoded.units]
        first = 0 if sum(lengths) <= room else rng.randrange(len(lengths))
        while first > 0 and sum(lengths[first:]) < room // 2:
            first -= 1
        last = first + 1
        while last < len(lengths) and sum(lengths[first : last + 1]) <= room:
            last += 1
        return list(range(first, last))

    def _tokens(self, encoded: Encoded, chosen: list[int]) -> list[int]:
        return [token for n in chosen for token in encoded.units[n]]


def _split(total: int, parts: int, rng: random.Random) -> list[int]:
    """`total` in `parts` lengths of at least one, uniformly."""
    cuts = sorted(rng.sample(range(1, total), parts - 1)) if parts > 1 else []
    return [b - a for a, b in zip([0, *cuts], [*cuts, total], strict=True)]
