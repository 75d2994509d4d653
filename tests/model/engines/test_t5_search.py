"""Searches with a T5 against transformers' own."""

from __future__ import annotations

import pytest
import torch

from tests.model.engines.test_t5 import VOCABULARY, build
from tuneoff.model.engines.constraints import Constraints
from tuneoff.model.engines.t5 import T5Engine

TOKENS = 24


def cut(ids: list[int], ends: list[int]) -> list[int]:
    return next((ids[: n + 1] for n, token in enumerate(ids) if token in ends), ids)


@pytest.mark.parametrize("at_once", [17, 6])
@pytest.mark.parametrize("seed", range(6))
def test_it_writes_what_transformers_writes(way: str, seed: int, at_once: int) -> None:
    model = build(seed, decoder_layers=2, pad_token_id=0).eval()
    model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, 48))
    search = T5Engine(model, bf16=False).search()
    assert search is not None
    torch.manual_seed(seed + 50)
    lengths = torch.randint(1, 30, (17,))
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    ids = torch.randint(3, VOCABULARY, mask.shape) * mask
    # Ends that some texts meet early, some late and some never.
    plain = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=TOKENS, do_sample=False, eos_token_id=-1)
    ends = [int(plain[n, n + 2]) for n in (1, 5, 9)]
    theirs = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=TOKENS, do_sample=False, eos_token_id=ends
    )[:, 1:]
    prompts = [row[:length].tolist() for row, length in zip(ids, lengths.tolist(), strict=True)]
    found = dict(search.write(prompts, TOKENS, Constraints(tuple(ends)), at_once))
    expected = [cut(row, ends) for row in theirs.tolist()]
    assert [found[n] for n in range(len(prompts))] == expected
    assert len(set(map(len, expected))) > 1


@pytest.mark.parametrize(("in_config", "in_generation_config"), [(None, 7), (0, 7)])
def test_it_starts_with_the_token_that_generation_config_names(
    in_config: int | None, in_generation_config: int
) -> None:
    model = build(3, decoder_layers=2, pad_token_id=0).eval()
    model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, 48))
    ids, mask = torch.randint(3, VOCABULARY, (4, 9)), torch.ones(4, 9, dtype=torch.int64)
    search = T5Engine(model, bf16=False).search()
    assert search is not None
    from_config = [text for _, text in search.write(ids.tolist(), TOKENS, Constraints((-1,)), 4)]
    model.config.decoder_start_token_id = in_config
    model.generation_config.decoder_start_token_id = in_generation_config
    theirs = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=TOKENS, do_sample=False, eos_token_id=-1)
    ours = [text for _, text in search.write(ids.tolist(), TOKENS, Constraints((-1,)), 4)]
    assert theirs[:, 0].tolist() == [in_generation_config] * 4
    assert ours == theirs[:, 1:].tolist()
    assert ours != from_config
