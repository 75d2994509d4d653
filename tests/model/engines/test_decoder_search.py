"""Searches with a decoder-only model against transformers' own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.model.engines.families import FAMILIES, VOCABULARY, build
from tuneoff.model.engines.constraints import Constraints
from tuneoff.model.engines.decoder import DecoderEngine

TOKENS = 20


def transformers_text(model: Any, prompt: list[int], ends: list[int]) -> list[int]:
    """By itself, so that nothing is padded."""
    ids = torch.tensor([prompt])
    written = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False, eos_token_id=ends
    )
    return [int(token) for token in written[0, len(prompt) :]]


@pytest.mark.parametrize("family", FAMILIES)
def test_it_writes_what_transformers_writes(way: str, family: str) -> None:
    model = build(family, 20).eval()
    torch.manual_seed(21)
    model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, 48))  # tied ones repeat a token
    lengths = [1, 12, 3, 7, 7, 2, 15, 4, 9, 5, 11]
    prompts = [torch.randint(3, VOCABULARY, (length,)).tolist() for length in lengths]
    search = DecoderEngine(model, bf16=False).search()
    assert search is not None
    # Ends that some texts meet early, some late and some never.
    endless = [transformers_text(model, prompt, [-1]) for prompt in prompts]
    ends = [endless[0][2], endless[3][7], endless[6][12]]
    expected = [next((text[: n + 1] for n, token in enumerate(text) if token in ends), text) for text in endless]
    assert len({len(text) for text in expected}) > 1
    found = dict(search.write(prompts, TOKENS, Constraints(tuple(ends)), at_once=4))
    assert [found[n] for n in range(len(prompts))] == expected


def test_a_finished_text_makes_room_for_the_next() -> None:
    model = build("llama", 22).eval()
    search = DecoderEngine(model, bf16=False).search()
    assert search is not None
    first = dict(search.write([[5, 6, 7]], TOKENS, Constraints((-1,)), at_once=1))[0]
    prompts = [[5, 6, 7], [8, 9, 10, 11], [12, 13]]
    written = list(search.write(prompts, TOKENS, Constraints((first[0],)), at_once=2))
    numbers = [n for n, _ in written]
    assert sorted(numbers) == [0, 1, 2]
    assert numbers.index(0) < 2  # it ends at once, while another is still written
    assert dict(written) == {
        n: dict(search.write([prompts[n]], TOKENS, Constraints((first[0],)), 1))[0] for n in range(3)
    }


def test_angles_that_change_with_the_length_are_left_to_transformers() -> None:
    model = build("llama", 23)
    model.config.rope_parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    assert DecoderEngine(model, bf16=False).search() is None
