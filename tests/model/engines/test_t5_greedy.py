"""Greedy search with a T5 against transformers' own."""

from __future__ import annotations

import pytest
import torch

from tests.model.engines.test_t5 import VOCABULARY, build
from tuneoff.model.engines.t5 import T5Engine

TOKENS = 24


@pytest.mark.parametrize("seed", range(6))
def test_it_writes_what_transformers_writes(seed: int) -> None:
    model = build(seed, decoder_layers=2, pad_token_id=0).eval()
    model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, 48))
    search = T5Engine(model, bf16=False).greedy()
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
    ours = search(ids, lengths.tolist(), TOKENS, ends)
    assert torch.equal(ours, theirs)
    lengths_written = (ours != 0).sum(1)
    assert lengths_written.min() < lengths_written.max()


@pytest.mark.parametrize(("in_config", "in_generation_config"), [(None, 7), (0, 7)])
def test_it_starts_with_the_token_that_generation_config_names(
    in_config: int | None, in_generation_config: int
) -> None:
    model = build(3, decoder_layers=2, pad_token_id=0).eval()
    model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, 48))
    ids, mask = torch.randint(3, VOCABULARY, (4, 9)), torch.ones(4, 9, dtype=torch.int64)
    search = T5Engine(model, bf16=False).greedy()
    assert search is not None
    from_config = search(ids, [9] * 4, TOKENS, [-1])
    model.config.decoder_start_token_id = in_config
    model.generation_config.decoder_start_token_id = in_generation_config
    theirs = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=TOKENS, do_sample=False, eos_token_id=-1)
    ours = search(ids, [9] * 4, TOKENS, [-1])
    assert theirs[:, 0].tolist() == [in_generation_config] * 4
    assert torch.equal(ours, theirs[:, 1:])
    assert not torch.equal(ours, from_config)
