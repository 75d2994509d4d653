"""How likely a model finds given texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from tuneoff.data.batches import collator_for
from tuneoff.data.tokens import IGNORED, Tokenization
from tuneoff.errors import MetricError
from tuneoff.model.base import model_class
from tuneoff.model.engines import Engine

if TYPE_CHECKING:
    from tuneoff.score.metrics import Loss


@torch.no_grad()
def reference_losses(
    engine: Engine,
    tokenization: Tokenization,
    prompts: Sequence[list[int]],
    references: Sequence[Sequence[str]],
    report: Callable[[int, int], None],
) -> list[list[Loss]]:
    """The loss on each of an example's references after its prompt: nats, summed over the tokens that a loss sees.

    Each goes through the model by itself, so that no figure hangs on what shares its batch. A reference is cut at
    `max_target_length`, as in training. `report` is told the examples done and in all.

    Raises MetricError where a loss is no number.
    """
    model = engine.model.eval()
    device = next(model.parameters()).device
    collate = collator_for(model, tokenization.tokenizer, model_class(model.config))
    found: list[list[Loss]] = []
    for prompt, own in zip(prompts, references, strict=True):
        losses: list[Loss] = []
        for row in tokenization.with_targets(prompt, own):
            batch = {name: tensor.to(device) for name, tensor in collate([row]).items()}
            tokens = sum(label != IGNORED for label in row["labels"])
            nats = float(engine.loss(batch))
            if not math.isfinite(nats):
                raise MetricError(f"the model's loss on a reference is {nats}: {own[len(losses)][:60]!r}")
            losses.append((nats, tokens))
        found.append(losses)
        report(len(found), len(prompts))
    return found
