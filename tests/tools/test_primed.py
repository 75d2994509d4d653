"""The weights that the pretraining starts from."""

from __future__ import annotations

import pytest
import torch
from primed import prime
from transformers import T5Config, T5ForConditionalGeneration


def model(heads: int = 4) -> T5ForConditionalGeneration:
    torch.manual_seed(3)
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=200, d_model=64, d_kv=16, d_ff=64, num_layers=2, num_heads=heads, feed_forward_proj="gated-gelu"
        )
    )


def test_the_decoder_looks_for_the_token_that_it_holds() -> None:
    t5 = model()
    source = torch.randperm(150)[None, :12] + 3
    prime(t5)
    t5.eval()
    t5.set_attn_implementation("eager")
    with torch.no_grad():
        seen = t5(input_ids=source, decoder_input_ids=source, output_attentions=True).cross_attentions[0]
    found = seen.mean(1)[0].argmax(-1)  # of each token, heads' mean
    assert (found == torch.arange(12)).float().mean() >= 0.75


def test_an_encoder_head_looks_at_the_token_before_and_one_at_the_next() -> None:
    t5 = model()
    prime(t5)
    bias = t5.encoder.block[0].layer[0].SelfAttention.compute_bias(8, 8)[0]
    assert bias[0].argmax(-1)[1:].tolist() == list(range(7))
    assert bias[1].argmax(-1)[:-1].tolist() == list(range(1, 8))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="num_heads"):
        prime(model(heads=2))
