"""Beam search by an engine's own steps: the same texts as transformers' `generate`, which the constants here follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tuneoff.model.engines.constraints import Constraints
from tuneoff.model.engines.engine import TextSearch


@dataclass(frozen=True)
class Beam:
    """A text so far: the sum of its tokens' log-probabilities, or for a whole text what it is ranked by."""

    score: float
    ids: list[int]


@dataclass
class _Prompt:
    """The beams of one prompt, best first, and the best whole texts found."""

    running: list[Beam]
    finished: list[Beam] = field(default_factory=list)
    improves: bool = True  # whether a running beam may still become better than the finished ones

    def advance(self, candidates: Sequence[tuple[float, int, int]], size: int, last: bool, rules: Rules) -> list[int]:
        """Take the best continuations: sum, beam and token, best first. Returns the beam each running one comes from.

        A continuation that ends is a whole text only if it is among the `size` best, as in transformers. In the `last`
        step all of them end.
        """
        running: list[Beam] = []
        sources: list[int] = []
        for rank, (score, beam, token) in enumerate(candidates):
            ids = [*self.running[beam].ids, token]
            if not (last or token in rules.ends):
                if len(running) < size:
                    running.append(Beam(score, ids))
                    sources.append(beam)
            elif rank < size and self.improves:
                self.finished.append(Beam(score / len(ids) ** rules.length_penalty, ids))
        self.finished = sorted(self.finished, key=lambda beam: -beam.score)[:size]
        self.running = running
        if running and len(self.finished) == size:
            best = running[0].score / len(running[0].ids) ** rules.length_penalty
            self.improves = self.improves and best > self.finished[-1].score
        return sources


@dataclass(frozen=True)
class Rules:
    """What ends a text, and how whole texts are ranked: sum of log-probabilities / tokens ** length_penalty."""

    ends: frozenset[int]
    length_penalty: float


@torch.no_grad()
def beam_search(
    search: TextSearch,
    prompts: Sequence[Sequence[int]],
    *,
    start: Sequence[int] | None,
    max_new_tokens: int,
    num_beams: int,
    length_penalty: float,
    constraints: Constraints,
    device: torch.device,
) -> list[list[int]]:
    """The best text for each of `prompts`, which are searched together: its token ids.

    `start` is what a text of an encoder-decoder begins with; None for a decoder-only model, whose texts go on with the
    prompt. `constraints` say which tokens end a text.
    """
    lengths = [len(prompt) for prompt in prompts]
    ids = torch.zeros(len(prompts), max(lengths), dtype=torch.int64, device=device)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    rules = Rules(frozenset(constraints.ends), length_penalty)
    # Of so many continuations of all beams, at least `num_beams` do not end.
    candidates = max(2, 1 + len(rules.ends)) * num_beams
    found = [_Prompt([Beam(0.0, [])]) for _ in prompts]
    going = list(range(len(prompts)))  # the prompts that the search still holds, `num_beams` rows each
    state, logits = search.begin(ids, lengths, max_new_tokens, num_beams)
    for step in range(max_new_tokens):
        own = [found[n] for n in going]
        scores = _scores(logits, own, [prompts[n] if start is None else start for n in going], constraints)
        last = step == max_new_tokens - 1
        best = _best(scores, own, min(candidates, scores.shape[1] * len(own[0].running)))
        rows: list[int] = []
        tokens: list[int] = []
        kept = []
        first = 0
        for number, one, continuations in zip(going, own, best, strict=True):
            beams = len(one.running)
            sources = one.advance(continuations, num_beams, last, rules)
            if one.improves and one.running:
                kept.append(number)
                rows += [first + source for source in sources]
                tokens += [beam.ids[-1] for beam in one.running]
            first += beams
        going = kept
        if not going or last:
            break
        search.branch(state, rows, tokens)
        logits = search.step(state, step + 1)
    return [one.finished[0].ids for one in found]


def _scores(
    logits: Tensor, prompts: Sequence[_Prompt], before: Sequence[Sequence[int]], constraints: Constraints
) -> Tensor:
    """The log-probabilities of the next token of every beam, -inf for what may not come next: (beams of all, V)."""
    scores = logits.float().log_softmax(-1)
    if constraints:
        beams = [(text, beam.ids) for text, prompt in zip(before, prompts, strict=True) for beam in prompt.running]
        constraints.apply(scores, [[*text, *ids] for text, ids in beams], [len(ids) for _, ids in beams])
    return scores


def _best(scores: Tensor, prompts: Sequence[_Prompt], count: int) -> list[list[tuple[float, int, int]]]:
    """The best continuations of each prompt's beams: the sum with the token's, the beam and the token."""
    beams, vocabulary = len(prompts[0].running), scores.shape[1]
    sums: Any = [beam.score for prompt in prompts for beam in prompt.running]
    totals = (scores + scores.new_tensor(sums)[:, None]).view(len(prompts), beams * vocabulary)
    values, indices = totals.topk(count)
    return [
        [(value, index // vocabulary, index % vocabulary) for value, index in zip(of_one, places, strict=True)]
        for of_one, places in zip(values.tolist(), indices.tolist(), strict=True)
    ]
