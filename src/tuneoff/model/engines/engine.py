"""What every engine provides. The training loop, the decoder, the planner and the server know no more than this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch


class GreedySearch(Protocol):
    """A greedy search of an engine's own."""

    def __call__(
        self, input_ids: torch.Tensor, lengths: Sequence[int], max_new_tokens: int, ends: list[int]
    ) -> torch.Tensor:
        """The tokens written after `input_ids` (B, S), whose rows have `lengths` real tokens.

        Returns (B, at most `max_new_tokens`) token ids. A row is filled with padding after the first token that is in
        `ends`.
        """
        ...

    def begin(self, input_ids: torch.Tensor, lengths: Sequence[int], max_new_tokens: int) -> Any:
        """Read the inputs and make room for the tokens to come. Returns the state of the search."""
        ...

    def step(self, state: Any, step: int) -> torch.Tensor:
        """The next token of every text, as the `step`-th (counted from 0): (B)."""
        ...


class Engine(Protocol):
    """Computes the loss and the text of one model: a transformers model, or one that peft has adapted.

    Attributes:
        name: What recipes, results and reports call it.
        computes_in_weights_dtype: Whether bf16 training computes with bf16 weights directly, which the optimizer then
            holds exactly, rather than under autocast.
        merges_adapters: Whether texts are written by a model with its adapter merged.
        model: The model that it computes.
        bf16: Whether training computes in bf16.
    """

    name: ClassVar[str]
    computes_in_weights_dtype: ClassVar[bool]
    merges_adapters: ClassVar[bool]
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

    def greedy(self) -> GreedySearch | None:
        """A greedy search that writes what transformers' own would, or None where the engine has none for `model`."""
        ...
