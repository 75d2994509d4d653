"""One arm's generation as it would go: its memory and its work, without weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from tuneoff.data.inputs import Inputs
from tuneoff.data.tokens import load_tokens
from tuneoff.decode.beams import best_continuations
from tuneoff.model.device import Precision
from tuneoff.model.engines import engine_for
from tuneoff.model.merge import is_merged
from tuneoff.model.methods import STEPS, uses_peft
from tuneoff.planner.alive import Alive, lasting_bytes
from tuneoff.planner.fake import FakeWorld
from tuneoff.planner.process import Held, bytes_besides_tensors
from tuneoff.planner.training import PlannedWork
from tuneoff.planner.work import CountWork, Work
from tuneoff.recipe.evaluation import EvaluationSpec


@dataclass(frozen=True)
class Generating:
    """What is held at the peak; the work of reading all inputs, and of one more token for all texts."""

    held: Held
    reading: Work
    token: Work


class FakeGeneration:
    """The generation of one arm on fake tensors: the code that a trial runs, token by token. Raises ModelError.

    transformers' own search asks for values at every turn. Its forward passes are computed, and its keys and values
    are added up for the longest text.
    """

    def __init__(
        self,
        arm: PlannedWork,
        inputs: Inputs,
        evaluation: EvaluationSpec,
        precision: Precision,
        device: torch.device,
    ) -> None:
        self._world, self._device = FakeWorld(device), device
        spec = arm.spec
        model = self._world.model(inputs.config, spec.method, spec.settings, precision.dtype, STEPS).eval()
        self.plain_model = not uses_peft(spec.method) or is_merged(model, arm.engine.name)  # without adapters
        if self.plain_model and uses_peft(spec.method):
            model = self._world.model(inputs.config, "none", {}, precision.dtype, STEPS).eval()
        self._model = model
        self._engine = engine_for(arm.engine.name, model, bf16=precision.name == "bf16")
        self._search: Any = None
        self._causal = inputs.model_class == "causal"
        self._evaluation, self._beams = evaluation, evaluation.search.num_beams
        self._lengths = sorted(
            (len(ids) for ids in load_tokens(inputs.tokens[evaluation.split])["input_ids"]), reverse=True
        )

    def predict(self) -> Generating:
        """Memory on the longest inputs; work on all of them."""
        size = self._evaluation.batch_size
        batches = [self._lengths[start : start + size] for start in range(0, len(self._lengths), size)]
        with self._world.entered([]):
            held, first = self._first(batches[0])
            last = self._count(batches[-1])[:2]
        tokens = [sum([max(batch)] * len(batch)) for batch in batches]
        middle = (first[0] + last[0]) * (sum(tokens) / max(1, tokens[0] + tokens[-1]))
        return Generating(held, middle, first[1] * len(batches))

    def _first(self, lengths: list[int]) -> tuple[Held, tuple[Work, Work]]:
        """What is held at the peak, with a search's copies of weights and the keys and values of all tokens to come.

        And the work of reading, and of writing a token.
        """
        with Alive() as alive:
            self._search = self._engine.search()
            reading, token, state = self._count(lengths)
        fixed = lasting_bytes(self._model, None) + bytes_besides_tensors(self._device, len(alive.products))
        held = alive.held(fixed)
        if self._search is None:
            held = Held(held.fixed, held.reused + self._growth(state, lengths))
        return held, (reading, token)

    def _count(self, lengths: list[int]) -> tuple[Work, Work, Any]:
        """The work of reading and of writing a token, and the search's state after."""
        with CountWork() as reading:
            state = self._read(lengths)
        with CountWork() as token:
            self._write(state)
        return reading.done, token.done, state

    @torch.no_grad()
    def _read(self, lengths: list[int]) -> Any:
        """The inputs read, and the first token of each text written where transformers writes it at once."""
        ids, beams = self._world.token_ids(len(lengths), max(lengths)), self._beams
        if self._search is not None:
            state, _ = self._search.begin(ids, lengths, self._evaluation.max_new_tokens, beams)
            if beams > 1:
                rows = [row for row in range(len(lengths)) for _ in range(beams)]
                self._search.branch(state, rows, [0] * len(rows))
            return state
        mask = torch.ones_like(ids)
        if self._causal:
            ids, mask = ids.repeat_interleave(beams, 0), mask.repeat_interleave(beams, 0)
            out = self._model(input_ids=ids, attention_mask=mask, use_cache=True, logits_to_keep=1)
            return {"attention_mask": torch.cat([mask, mask[:, :1]], 1)}, out
        encoded = self._model.get_encoder()(input_ids=ids, attention_mask=mask)
        encoded.last_hidden_state = encoded.last_hidden_state.repeat_interleave(beams, 0)
        mask = mask.repeat_interleave(beams, 0)
        kept = {"encoder_outputs": encoded, "attention_mask": mask}
        return kept, self._model(**kept, decoder_input_ids=mask[:, :1], use_cache=True)

    @torch.no_grad()
    def _write(self, state: Any) -> None:
        """One more token for each text, the last, chosen as the search chooses it."""
        if self._search is not None:
            logits = self._search.step(state, self._evaluation.max_new_tokens - 1)
            if self._beams > 1:
                sums = logits.new_zeros(len(logits), dtype=torch.float32)
                best_continuations(logits, sums, len(logits) // self._beams, 2 * self._beams, lambda _: None)
            return
        kept, out = state
        token = self._world.token_ids(out.logits.shape[0], 1)
        name = "input_ids" if self._causal else "decoder_input_ids"
        logits = self._model(**kept, **{name: token}, past_key_values=out.past_key_values, use_cache=True).logits
        # transformers copies the logits to fp32, and of the step before it still holds as many.
        wide = logits[:, -1].to(dtype=torch.float32, copy=True)
        if self._beams > 1:
            scores = wide.log_softmax(-1)
            del logits
            (scores + 0).view(len(scores) // self._beams, -1).topk(2 * self._beams)
        elif self._causal:  # a processor for the least length, which transformers adds even where that is 0
            every_token = torch.arange(wide.shape[1], device=wide.device)
            wide.clone()
            del every_token

    def _growth(self, state: Any, lengths: list[int]) -> int:
        cache = state[1].past_key_values
        own = getattr(cache, "self_attention_cache", cache)
        held = sum(t.numel() * t.element_size() for layer in own.layers for t in (layer.keys, layer.values))
        there = 2 if not self._causal else max(lengths) + 1
        return int(held / there * (self._evaluation.max_new_tokens - 2))
