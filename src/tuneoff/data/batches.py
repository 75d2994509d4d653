"""Rows of token ids → one padded batch of tensors, for training and for generation."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tuneoff.data.order import padded
from tuneoff.data.tokens import IGNORED
from tuneoff.errors import ModelError
from tuneoff.model.base import start_token

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

GLOBAL_ATTENTION = "global_attention_mask"


@dataclass(frozen=True)
class Collator:
    """Makes one padded batch of examples. Pads on the right, whatever side the tokenizer's file names.

    `decoder_start_token_id` is the token that generation begins a text with; an encoder-decoder model needs it.
    `extra` names the further inputs that the architecture takes: `global_attention_mask` (LED) or nothing.
    """

    pad_token_id: int
    model_class: Literal["seq2seq", "causal"]
    decoder_start_token_id: int | None
    extra: tuple[str, ...] = ()

    def __call__(self, rows: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, torch.Tensor]:
        """The batch of `rows`, each with `input_ids` and `labels`; all tensors are (rows, length) of int64.

        `input_ids`, `attention_mask` and `labels` (-100 where the loss does not look) are padded to a multiple
        of order.PADDING. An encoder-decoder batch also has `decoder_input_ids`: the start token, then the target
        without its last token. So training begins where generation begins, in every architecture.
        """
        inputs = [list(row["input_ids"]) for row in rows]
        labels = [list(row["labels"]) for row in rows]
        batch = _masked(inputs, self.pad_token_id, padded(max(map(len, inputs))), "right")
        width = padded(max(map(len, labels)))
        batch["labels"] = _pad(labels, IGNORED, width, "right")
        if self.model_class == "seq2seq":
            if self.decoder_start_token_id is None:
                raise ModelError("an encoder-decoder batch needs the token that the decoder starts with")
            shifted = [[self.decoder_start_token_id, *ids[:-1]] for ids in labels]
            batch["decoder_input_ids"] = _pad(shifted, self.pad_token_id, width, "right")
        return self._with_extra(batch)

    def for_generation(self, prompts: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """What `generate` takes for `prompts`: `input_ids`, `attention_mask`, and the architecture's further inputs.

        All are (prompts, longest prompt) of int64. An encoder's input is padded on the right, a decoder-only model's
        on the left, so that every text goes on where its prompt ends.
        """
        side: Literal["left", "right"] = "right" if self.model_class == "seq2seq" else "left"
        return self._with_extra(_masked(prompts, self.pad_token_id, max(map(len, prompts)), side))

    def _with_extra(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if GLOBAL_ATTENTION in self.extra:
            import torch

            # LED's documentation: for summarization, the first token attends to all others and is seen by all.
            batch[GLOBAL_ATTENTION] = torch.zeros_like(batch["input_ids"])
            batch[GLOBAL_ATTENTION][:, 0] = 1
        return batch


def collator_for(model: Any, tokenizer: PreTrainedTokenizerBase, model_class: Literal["seq2seq", "causal"]) -> Collator:
    """The collator of `model`, which may be wrapped by peft and may lie on the meta device.

    The decoder starts with the token that transformers' `generate` starts with. Raises ModelError where an
    encoder-decoder model names none, and where the tokenizer has no padding token.
    """
    if tokenizer.pad_token_id is None:
        raise ModelError("the tokenizer has no padding token, so that no batch can be made")
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    start = start_token(base) if model_class == "seq2seq" else None
    takes = inspect.signature(type(base).forward).parameters
    extra = (GLOBAL_ATTENTION,) if GLOBAL_ATTENTION in takes else ()
    return Collator(tokenizer.pad_token_id, model_class, start, extra)


def _masked(
    rows: Sequence[Sequence[int]], fill: int, width: int, side: Literal["left", "right"]
) -> dict[str, torch.Tensor]:
    return {
        "input_ids": _pad(rows, fill, width, side),
        "attention_mask": _pad([[1] * len(ids) for ids in rows], 0, width, side),
    }


def _pad(rows: Sequence[Sequence[int]], fill: int, width: int, side: Literal["left", "right"]) -> torch.Tensor:
    import torch

    lengthened = []
    for ids in rows:
        padding = [fill] * (width - len(ids))
        lengthened.append([*ids, *padding] if side == "right" else [*padding, *ids])
    return torch.tensor(lengthened, dtype=torch.int64)
