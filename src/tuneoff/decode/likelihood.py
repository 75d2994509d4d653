"""How likely a model finds given texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from tuneoff.data.batches import Collator, collator_for
from tuneoff.data.tokens import IGNORED, Tokenization
from tuneoff.errors import MetricError
from tuneoff.model.base import model_class
from tuneoff.model.engines import Engine

if TYPE_CHECKING:
    from tuneoff.score.metrics import Loss

AT_ONCE = 8  # rows that go through the model together, or fewer where texts are written in smaller batches
Rows = Sequence[dict[str, list[int]]]


@torch.no_grad()
def row_losses(
    engine: Engine, collate: Collator, rows: Rows, at_once: int, report: Callable[[int, int], None] = lambda *_: None
) -> list[float]:
    """The loss of each row (`input_ids` and `labels`) in nats, summed over its targets.

    Rows of like length go through the model together, at most `at_once`, so that a figure may hang on its neighbours
    in its last digits. `report` is told the rows done and in all.
    """
    model = engine.model.eval()
    device = next(model.parameters()).device
    losses = [0.0] * len(rows)
    order = sorted(range(len(rows)), key=lambda n: len(rows[n]["input_ids"]), reverse=True)
    for start in range(0, len(order), at_once):
        chosen = order[start : start + at_once]
        batch = {name: tensor.to(device) for name, tensor in collate([rows[n] for n in chosen]).items()}
        for n, nats in zip(chosen, engine.losses(batch).tolist(), strict=True):
            losses[n] = nats
        report(start + len(chosen), len(rows))
    return losses


def reference_losses(
    engine: Engine,
    tokenization: Tokenization,
    prompts: Sequence[list[int]],
    references: Sequence[Sequence[str]],
    batch_size: int,
    report: Callable[[int, int], None],
) -> list[list[Loss]]:
    """The loss on each of an example's references after its prompt: nats, summed over the tokens that a loss sees.

    A reference is cut at `max_target_length`, as in training. `report` is told the references done and in all.

    Raises MetricError where a loss is no number.
    """
    collate = collator_for(engine.model, tokenization.tokenizer, model_class(engine.model.config))
    rows, owners = [], []
    for number, (prompt, own) in enumerate(zip(prompts, references, strict=True)):
        made = list(tokenization.with_targets(prompt, own))
        rows += made
        owners += [(number, place) for place in range(len(made))]
    found: list[list[Loss]] = [[(0.0, 0)] * len(own) for own in references]
    losses = row_losses(engine, collate, rows, min(AT_ONCE, batch_size), report)
    for row, (number, place), nats in zip(rows, owners, losses, strict=True):
        if not math.isfinite(nats):
            raise MetricError(f"the model's loss on a reference is {nats}: {references[number][place][:60]!r}")
        found[number][place] = nats, sum(label != IGNORED for label in row["labels"])
    return found
