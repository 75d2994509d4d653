"""What every engine provides. The training loop, the decoder, the planner and the server know no more than this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch

from tuneoff.model.engines.constraints import Constraints


class TextSearch(Protocol):
    """An engine's own search for texts: greedy as a whole, and step by step for what goes on from several beams.

    Attributes:
        batches: How many batches' worth of prompts `write` is given at once: 1 where the texts of a batch are written
            together, more where a finished text makes room for one of the next batch.
    """

    batches: ClassVar[int]

    def write(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, constraints: Constraints, at_once: int
    ) -> Iterator[tuple[int, list[int]]]:
        """The number of each prompt and the token ids written for it by greedy search, as texts end.

        A text ends with the first token that is one of the constraints' ends, or after `max_new_tokens`. At most
        `at_once` texts are written together.
        """
        ...

    def begin(
        self, input_ids: torch.Tensor, lengths: Sequence[int], max_new_tokens: int, beams: int = 1
    ) -> tuple[Any, torch.Tensor]:
        """Read inputs (B, S), padded on the right, and make room for `beams` texts of each, of which the first begins.

        Returns the search's state and the logits of the first tokens: (B, V).
        """
        ...

    def step(self, state: Any, step: int) -> torch.Tensor:
        """The logits of the `step`-th token (counted from 0) of every text: (B, V)."""
        ...

    def branch(self, state: Any, rows: Sequence[int], tokens: Sequence[int]) -> None:
        """Text n goes on from what text `rows[n]` was, with `tokens[n]`. Texts that are not named are let go."""
        ...


class Engine(Protocol):
    """Computes the loss and the text of one model: a transformers model, or one that peft has adapted.

    Attributes:
        name: What recipes, results and reports call it.
        computes_in_weights_dtype: Whether bf16 training computes with bf16 weights directly, which the optimizer then
            holds exactly, rather than under autocast.
        merges_adapters: Whether texts are written by a model with its adapter merged.
        checkpoints: Whether it can compute activations again in the backward pass.
        model: The model that it computes.
        bf16: Whether training computes in bf16.
    """

    name: ClassVar[str]
    computes_in_weights_dtype: ClassVar[bool]
    merges_adapters: ClassVar[bool]
    checkpoints: ClassVar[bool]
    model: Any
    bf16: bool

    def __init__(self, model: Any, *, bf16: bool) -> None: ...

    @classmethod
    def suits(cls, model: Any) -> str | None:
        """None if the engine computes exactly what transformers computes for `model`; otherwise why it does not."""
        ...

    def loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Cross-entropy in nats, summed over the target tokens of a batch that `data.batches.Collator` made."""
        ...

    def losses(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The cross-entropy of each example in nats, summed over its targets, without gradient: (B) in fp32."""
        ...

    def real_rows(self, batch: Mapping[str, torch.Tensor]) -> list[int]:
        """How many rows are real of each mask that `loss` makes of a batch, in its order: what only values tell.

        The planner, whose tensors have none, answers by it.
        """
        ...

    def search(self) -> TextSearch | None:
        """A search that writes what transformers' own would, or None where the engine has none for `model`."""
        ...
