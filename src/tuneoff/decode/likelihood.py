"""How likely a model finds given texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from tuneoff.data.batches import collator_for
from tuneoff.data.tokens import IGNORED, Tokenization
from tuneoff.errors import MetricError
from tuneoff.model.base import model_class
from tuneoff.model.engines import Engine

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from tuneoff.score.metrics import Loss

AT_ONCE = 8  # references that go through the model together, or fewer where texts are written in smaller batches


def reference_losses(
    engine: Engine,
    tokenization: Tokenization,
    prompts: Sequence[list[int]],
    references: Sequence[Sequence[str]],
    batch_size: int,
    report: Callable[[int, int], None],
) -> list[list[Loss]]:
    """The loss on each of an example's references after its prompt: nats, summed over the tokens that a loss sees.

    A reference is cut at `max_target_length`, as in training. References of like length go through the model together,
    so that a figure may hang on its neighbours in its last digits. `report` is told the examples done and in all.

    Raises MetricError where a loss is no number.
    """
    rows, owners = [], []
    for number, (prompt, own) in enumerate(zip(prompts, references, strict=True)):
        made = list(tokenization.with_targets(prompt, own))
        rows += made
        owners += [(number, place) for place in range(len(made))]
    found: list[list[Loss]] = [[(0.0, 0)] * len(own) for own in references]
    left = [len(own) for own in references]
    order = sorted(range(len(rows)), key=lambda n: len(rows[n]["input_ids"]), reverse=True)
    at_once = min(AT_ONCE, batch_size)
    batches = [order[start : start + at_once] for start in range(0, len(order), at_once)]
    for chosen, losses in zip(batches, row_losses(engine, tokenization.tokenizer, rows, batches), strict=True):
        for n, loss in zip(chosen, losses, strict=True):
            number, place = owners[n]
            if not math.isfinite(loss[0]):
                raise MetricError(f"the model's loss on a reference is {loss[0]}: {references[number][place][:60]!r}")
            found[number][place] = loss
            left[number] -= 1
        report(left.count(0), len(prompts))
    return found


@torch.no_grad()
def row_losses(
    engine: Engine, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Any] | Dataset, batches: Sequence[Sequence[int]]
) -> Iterator[list[Loss]]:
    """The loss on each row of tokens (`input_ids` and `labels`), batch by batch: nats, summed over its targets.

    `batches` are the numbers of the rows that go through the model together.
    """
    model = engine.model.eval()
    device = next(model.parameters()).device
    collate = collator_for(model, tokenizer, model_class(model.config))
    for chosen in batches:
        own = [rows[n] for n in chosen]
        batch = {name: tensor.to(device) for name, tensor in collate(own).items()}
        counts = [sum(label != IGNORED for label in row["labels"]) for row in own]
        yield list(zip(engine.losses(batch).tolist(), counts, strict=True))
