"""The KV cache of a search: what each text finds in it after others have ended or branched, and what that copies."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from tests.model.engines.test_t5 import VOCABULARY, build
from tuneoff.decode.beams import beam_search
from tuneoff.model.engines import t5_search
from tuneoff.model.engines.cache import Cache
from tuneoff.model.engines.constraints import Constraints
from tuneoff.model.engines.t5 import T5Engine
from tuneoff.planner.alive import Alive

LAYERS, TOKENS, COMMON = 6, 12, 3


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("beams", [1, 3])
def test_every_text_finds_the_tokens_that_it_continues(way: str, seed: int, beams: int) -> None:
    """Against lists of tokens. Prompts end; with several beams these branch, with one the room goes to new prompts."""
    drawn = random.Random(seed)
    cache = Cache(LAYERS, 5, beams, 2, TOKENS, 4, torch.empty(0))
    assert cache.packed == (way == "plain")
    texts: list[list[float]] = []
    for step in range(COMMON, TOKENS):
        if beams == 1 or step == COMMON:
            for slot in cache.put(5 - len(texts)).tolist():
                texts.append([drawn.random() for _ in range(step)])
                cache.block[:, :, slot, :, :step] = torch.tensor(texts[-1])[:, None]
        ended = drawn.choice(cache.prompts) if step % 2 and len(set(cache.prompts)) > 1 else None
        rows: list[int] = []
        for number in dict.fromkeys(cache.prompts):
            own = [row for row, prompt in enumerate(cache.prompts) if prompt == number]
            rows += [drawn.choice(own) for _ in range(beams)] if number != ended else []
        prompts = [cache.prompts[row] for row in rows]
        cache.branch(rows, 0 if beams == 1 or step == COMMON else COMMON, step)
        assert cache.prompts == prompts and cache.slots.tolist() == cache.places
        assert not cache.packed or cache.places == list(range(len(rows)))
        texts = [[*texts[row], drawn.random()] for row in rows]
        for slot, text in zip(cache.places, texts, strict=True):
            cache.block[:, :, slot, :, step] = text[-1]
        for slot, text in zip(cache.places, texts, strict=True):
            held = cache.block[:, :, slot, :, : step + 1]
            assert torch.equal(held, torch.tensor(text)[:, None].expand_as(held))


def test_branching_copies_one_layer_at_a_time(way: str) -> None:
    cache = Cache(LAYERS, 4, 4, 2, TOKENS, 64, torch.empty(0))
    cache.put(4)
    rows = [row for row in range(4) for _ in range(4)]
    with Alive() as alive:
        cache.branch(rows, 0, TOKENS)
    layer = cache.block[0].numel() * 4
    moved = layer * (15 if way == "plain" else 12) / 16  # texts, of which the others stay where they are
    assert moved <= alive.peak < 1.1 * moved
    with Alive() as alive:
        cache.branch(range(16), 0, TOKENS)
    assert alive.peak < layer / 10


@pytest.mark.parametrize("beams", [1, 3])
def test_without_kernels_t5_gathers_no_keys_and_encodes_once(beams: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuneoff.model.kernels import operations

    monkeypatch.setattr(operations, "native", lambda: None)
    model = build(7, decoder_layers=2, pad_token_id=0).eval()
    model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, 48))
    engine, rows, encoded = T5Engine(model, bf16=False), list[int](), list[int]()
    encode, attend = engine.encode, operations.attend

    def encode_counted(ids: Any, lengths: Any) -> Any:
        encoded.append(len(ids))
        return encode(ids, lengths)

    def attend_in_place(q: Any, k: Any, v: Any, *rest: Any, **options: Any) -> Any:
        assert options["slots"] is None
        rows.append(len(q))
        return attend(q, k, v, *rest, **options)

    monkeypatch.setattr(engine, "encode", encode_counted)
    monkeypatch.setattr(t5_search, "attend", attend_in_place)
    search = engine.search()
    assert search is not None
    prompts = [[3 + n] * (1 + n) for n in range(10)]
    ends = Constraints(tuple(range(5, VOCABULARY, 12 if beams == 1 else 3)))
    if beams == 1:
        list(search.write(prompts, 16, ends, 10))
    else:
        beam_search(
            search, prompts, start=[0], max_new_tokens=16, num_beams=beams, length_penalty=0.0, constraints=ends,
            device=torch.device("cpu"),
        )  # fmt: skip
    assert sum(encoded) == 10
    assert rows[0] == 10 and max(rows) == 10 * beams and rows[-1] < max(rows)  # texts that have ended are dropped
