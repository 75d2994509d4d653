"""Batched generation, longest inputs first: little padding, and too little memory shows at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from tuneoff.decode.search import search_settings, steering
from tuneoff.decode.t5 import GreedyT5
from tuneoff.model.base import ModelClass
from tuneoff.model.engine import Engine

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Generated:
    """The text written for one input, in `tokens` (an EOS included); `truncated` where it reached `max_new_tokens`
    without an EOS.
    """

    text: str
    truncated: bool
    tokens: int


@torch.no_grad()
def generate(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    inputs: Sequence[list[int]],
    *,
    model_class: ModelClass,
    max_new_tokens: int,
    num_beams: int,
    batch_size: int,
    engine: Engine,
    report: Callable[[int, int], None],
) -> list[Generated]:
    """What `model` writes for each of `inputs` (token ids of prompts), in their order.

    Greedy search, or beam search with `num_beams` > 1; never sampling. `report` is told inputs done
    and in all after each batch. The fast engine searches greedily alone, and where nothing in the model's
    generation config steers that.
    """
    model.eval()
    device = next(model.parameters()).device
    settings = search_settings(model, tokenizer, max_new_tokens, num_beams)
    plain_greedy = num_beams == 1 and not steering(model.generation_config)
    greedy = GreedyT5(model) if engine == "fast" and plain_greedy else None
    ends = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    outputs: list[Generated | None] = [None] * len(inputs)
    order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]), reverse=True)
    side = "right" if model_class == "seq2seq" else "left"
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = tokenizer.pad(
            {"input_ids": [inputs[i] for i in chosen]}, padding_side=side, return_tensors="pt", verbose=False
        ).to(device)
        if greedy is not None:
            written = greedy(batch["input_ids"], [len(inputs[i]) for i in chosen], max_new_tokens, ends)
        else:
            written = model.generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], generation_config=settings
            )
            # A decoder-only model repeats its prompt, an encoder-decoder its decoder_start_token_id.
            written = written[:, batch["input_ids"].shape[1] if model_class == "causal" else 1 :]
        texts = tokenizer.batch_decode(written, skip_special_tokens=True)
        for i, ids, text in zip(chosen, written.tolist(), texts, strict=True):
            ended = next((n for n, token in enumerate(ids, start=1) if token in ends), None)
            outputs[i] = Generated(text.strip(), truncated=ended is None, tokens=ended or len(ids))
        report(start + len(chosen), len(inputs))
    return [output for output in outputs if output is not None]
