"""Beam search with an engine's own search, by the rules of transformers' `generate`: both find the same texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tuneoff.model.engines.constraints import Constraints
from tuneoff.model.engines.engine import TextSearch


@dataclass(frozen=True)
class Beam:
    """A text as token ids. `score` is the sum of their log-probabilities; of a finished text, it is what ranks it."""

    score: float
    ids: list[int]


@dataclass
class _Prompt:
    """The state of the search for one prompt: the texts that may be continued and the finished ones, best first."""

    running: list[Beam]
    finished: list[Beam] = field(default_factory=list)
    improves: bool = True  # whether a running text may still become better than the finished ones

    def advance(self, candidates: Sequence[tuple[float, int, int]], size: int, last: bool, rules: Rules) -> list[int]:
        """Choose from `candidates` the `size` texts to be continued, and keep the finished ones that are good enough.

        A candidate is the sum of log-probabilities, the number of the beam that it continues and its last token; the
        best comes first. As in transformers, a text that ends is kept only if it is among the `size` best candidates.
        In the `last` step all texts end. Returns the beam that each running text continues.
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
    """The tokens that end a text. Finished texts are ranked by sum of log-probabilities / tokens ** length_penalty."""

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
    """Search for texts for all `prompts` together. Returns the token ids of the best text for each.

    `start` holds the first tokens of every text of an encoder-decoder. It is None for a decoder-only model, whose texts
    continue the prompt. `constraints` say which tokens end a text and which may not come next.
    """
    lengths = [len(prompt) for prompt in prompts]
    ids = torch.zeros(len(prompts), max(lengths), dtype=torch.int64, device=device)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    rules = Rules(frozenset(constraints.ends), length_penalty)
    # Among so many continuations there are at least `num_beams` that do not end.
    candidates = max(2, 1 + len(rules.ends)) * num_beams
    found = [_Prompt([Beam(0.0, [])]) for _ in prompts]
    going = list(range(len(prompts)))  # the prompts whose search goes on, each with `num_beams` rows
    state, logits = search.begin(ids, lengths, max_new_tokens, num_beams)
    for step in range(max_new_tokens):
        own = [found[n] for n in going]
        best = _best(logits, own, [prompts[n] if start is None else start for n in going], constraints, candidates)
        last = step == max_new_tokens - 1
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


def best_continuations(
    logits: Tensor, sums: Tensor, prompts: int, count: int, forbid: Callable[[Tensor], object]
) -> tuple[Tensor, Tensor]:
    """The `count` best continuations of each of `prompts`, whose beams are the rows of `logits` (B, V), in order.

    `sums` (B) are the beams' own scores. `forbid` sets log-probabilities (B, V) of tokens that may not come next to
    -inf, in place. Returns the scores and the numbers beam · V + token, (prompts, count) each.
    """
    scores = logits.float().log_softmax(-1)
    forbid(scores)
    totals = scores.add_(sums[:, None]).view(prompts, -1)
    values, indices = totals.topk(min(count, totals.shape[1]))
    return values, indices


def _best(
    logits: Tensor,
    prompts: Sequence[_Prompt],
    before: Sequence[Sequence[int]],
    constraints: Constraints,
    count: int,
) -> list[list[tuple[float, int, int]]]:
    """The candidates of each prompt for `_Prompt.advance`. `before` are the tokens that precede each prompt's texts."""
    vocabulary = logits.shape[1]
    beams = [(text, beam.ids) for text, prompt in zip(before, prompts, strict=True) for beam in prompt.running]

    def forbid(scores: Tensor) -> None:
        if constraints:
            constraints.apply(scores, [[*text, *ids] for text, ids in beams], [len(ids) for _, ids in beams])

    sums = torch.tensor([beam.score for prompt in prompts for beam in prompt.running], device=logits.device)
    values, indices = best_continuations(logits, sums, len(prompts), count, forbid)
    return [
        [(value, index // vocabulary, index % vocabulary) for value, index in zip(of_one, places, strict=True)]
        for of_one, places in zip(values.tolist(), indices.tolist(), strict=True)
    ]
