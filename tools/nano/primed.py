"""Weights to start from, with which a small T5 learns to copy from its source in minutes."""

from __future__ import annotations

import torch
from transformers import T5ForConditionalGeneration

NEIGHBOUR = 4.0  # a logit by which a head prefers one place
NEAR, FURTHEST = 0.3, 12  # a logit by which a head likes each further place less; the last place counted
KEPT = 0.7  # of what is attended to, the share written
MATCH = 1 / 8  # with both sides of norm sqrt(d_model), d_kv * MATCH is the logit of a match


@torch.no_grad()
def prime(model: T5ForConditionalGeneration) -> None:
    """Heads that look at neighbours, write what they see and, between the stacks, look for what they hold.

    After Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention Layers": value and output matrices whose
    product is near the identity, query and key matrices whose product is. The position biases of the first two heads
    of a stack point at one place each, those of the third at all near ones, those of the fourth nowhere. Seen
    together: a token's state in the encoder holds its next one, and the decoder finds the token that it wrote last.

    Raises:
        ValueError: if heads * d_kv is not d_model, or there are fewer than three heads.
    """
    config = model.config
    if config.num_heads * config.d_kv != config.d_model or config.num_heads < 3:
        raise ValueError("num_heads * d_kv must be d_model, and num_heads at least 3")
    between = [block.layer[1].EncDecAttention for block in model.decoder.block]
    within = [block.layer[0].SelfAttention for stack in (model.encoder, model.decoder) for block in stack.block]
    for attention in between + within:
        seen = torch.nn.init.orthogonal_(attention.v.weight)
        attention.o.weight.copy_(KEPT * seen.T)
    for attention in between:
        key = torch.nn.init.orthogonal_(attention.k.weight)
        attention.q.weight.copy_(MATCH * key)
    half = config.relative_attention_num_buckets // 2  # encoder: the first half for what stands before
    before, itself, after = 1, 0, half + 1
    places = torch.arange(2 * half, device=model.device)
    for stack, first, second, distance in (
        (model.encoder, before, after, places % half),
        (model.decoder, before, itself, places),
    ):
        bias = stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight
        bias[first, 0] += NEIGHBOUR
        bias[second, 1] += NEIGHBOUR
        bias[:, 2] -= NEAR * distance.clamp(max=FURTHEST)
