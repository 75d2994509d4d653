"""Batched generation, longest inputs first: little padding, and too little memory shows at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tuneoff.data.batches import collator_for
from tuneoff.decode.beams import beam_search
from tuneoff.decode.ngrams import UnpaddedNGrams
from tuneoff.decode.search import search_settings, steering
from tuneoff.model.base import model_class, start_token
from tuneoff.model.engines import Engine
from tuneoff.model.engines.constraints import Constraints
from tuneoff.recipe.evaluation import SearchSpec
from tuneoff.records import ChatFrame

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
    engine: Engine,
    tokenizer: PreTrainedTokenizerBase,
    inputs: Sequence[list[int]],
    *,
    max_new_tokens: int,
    search: SearchSpec,
    batch_size: int,
    report: Callable[[int, int], None],
    chat: ChatFrame | None = None,
    batches_ended: Callable[[int], None] = lambda _: None,
) -> list[Generated]:
    """What the engine's model writes for each of `inputs` (token ids of prompts), in their order.

    With `chat`, a text ends where the assistant's turn does, too. `report` is told the inputs done and in all, and
    `batches_ended` the batches done, when all texts of one are written, or of the several that an engine's greedy
    search takes at once. An engine's own search is used where it has one and the model needs no tokens forced or
    forbidden (`search.steering`); otherwise transformers' `generate` writes.
    """
    model = engine.model.eval()
    device = next(model.parameters()).device
    kind = model_class(model.config)
    collate = collator_for(model, tokenizer, kind)
    settings = search_settings(model, tokenizer, max_new_tokens, search, chat)
    fast = engine.search() if not steering(settings) else None
    ends = tuple(settings.eos_token_id)
    constraints = Constraints(ends, search.min_new_tokens, search.no_repeat_ngram_size)
    outputs: list[Generated | None] = [None] * len(inputs)

    def keep(number: int, ids: list[int]) -> None:
        ended = next((n for n, token in enumerate(ids, start=1) if token in ends), None)
        text = tokenizer.decode(ids[:ended], skip_special_tokens=True).strip()
        outputs[number] = Generated(text, truncated=ended is None, tokens=ended or len(ids))

    size = batch_size * (fast.batches if fast is not None and search.num_beams == 1 else 1)
    order = sorted(range(len(inputs)), key=lambda i: len(inputs[i]), reverse=True)
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        prompts = [inputs[i] for i in chosen]
        if fast is not None and search.num_beams == 1:
            texts = fast.write(prompts, max_new_tokens, constraints, batch_size)
            for done, (place, ids) in enumerate(texts, start=start + 1):
                keep(chosen[place], ids)
                report(done, len(inputs))
        elif fast is not None:
            found = beam_search(
                fast,
                prompts,
                start=None if kind == "causal" else [start_token(model)],
                max_new_tokens=max_new_tokens,
                num_beams=search.num_beams,
                length_penalty=search.length_penalty,
                constraints=constraints,
                device=device,
            )
            for i, ids in zip(chosen, found, strict=True):
                keep(i, ids)
            report(start + len(chosen), len(inputs))
        else:
            batch = {name: tensor.to(device) for name, tensor in collate.for_generation(prompts).items()}
            processors = []
            if kind == "causal" and search.no_repeat_ngram_size:  # padding lies before the prompts of this kind alone
                padding = [batch["input_ids"].shape[1] - len(prompt) for prompt in prompts]
                processors = [UnpaddedNGrams(search.no_repeat_ngram_size, padding)]
                settings.no_repeat_ngram_size = 0
            written = model.generate(**batch, generation_config=settings, logits_processor=processors)
            # A decoder-only model repeats its prompt, an encoder-decoder its decoder_start_token_id.
            written = written[:, batch["input_ids"].shape[1] if kind == "causal" else 1 :]
            for i, ids in zip(chosen, written.tolist(), strict=True):
                keep(i, ids)
            report(start + len(chosen), len(inputs))
        batches_ended(-(-(start + len(chosen)) // batch_size))
    return [output for output in outputs if output is not None]
