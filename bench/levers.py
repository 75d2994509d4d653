"""What each lever of the T5 engine gains: a step, and a generation, with one of them taken away at a time.

    python bench/levers.py --data FOLDER [--shape flan-t5-small] [--rounds 5] [--method full|lora]

Everything in one process, interleaved: a round times ten steps of 8 examples with all levers, then without each.
Figures are medians over the rounds after a first one that is dropped; without ÷ with says what a lever is worth.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from shapes import DECODERS, RATES, SHAPES, lora_settings, recipe, resolved_for
from tuneoff.data import order
from tuneoff.data.batches import collator_for
from tuneoff.data.tokens import load_tokens
from tuneoff.folder import RunFolder
from tuneoff.measure import allocator
from tuneoff.model.base import load_model
from tuneoff.model.engines.constraints import Constraints
from tuneoff.model.engines.t5 import T5Engine
from tuneoff.model.engines.t5_search import T5Search
from tuneoff.model.kernels import operations
from tuneoff.model.methods import adapt
from tuneoff.model.tokenizer import load_tokenizer
from tuneoff.records import Resolved
from tuneoff.train import adamw
from tuneoff.train.adamw import ExactAdamW

STEPS, EXAMPLES_PER_STEP, NEW_TOKENS = 10, 8, 64


class AllRows(T5Engine):
    """The loss with the output layer computed on padding, too."""

    def loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        lengths = batch["attention_mask"].sum(1)
        encoded = self.encode(batch["input_ids"], lengths)
        decoded = self._decode(self.t5.decoder.embed_tokens(batch["decoder_input_ids"]), encoded, lengths)
        logits = self.t5.lm_head(self.scaled(decoded))
        return nn.functional.cross_entropy(logits.float().flatten(0, 1), batch["labels"].flatten(), reduction="sum")


class AllTexts(T5Search):
    """Greedy search in which texts that have ended are computed until all texts of their batch have ended."""

    def _write(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, constraints: Constraints
    ) -> list[list[int]]:
        lengths = [len(prompt) for prompt in prompts]
        rows = [[*prompt, *[0] * (max(lengths) - len(prompt))] for prompt in prompts]
        texts, logits = self.begin(torch.tensor(rows), lengths, max_new_tokens)
        written: list[list[int]] = [[] for _ in prompts]
        for step in range(1, max_new_tokens + 1):
            tokens = logits.max(-1).indices.tolist()
            for text, token in zip(written, tokens, strict=True):
                text.append(token)
            if step == max_new_tokens or all(any(end in text for end in constraints.ends) for text in written):
                break
            self.branch(texts, range(len(prompts)), tokens)
            logits = self.step(texts, step)
        return written


@contextmanager
def without_native() -> Iterator[None]:
    with patch.object(operations, "native", lambda: None), patch.object(adamw, "native", lambda: None):
        yield


class Trained:
    """A model and its optimizer, as tuneoff trains it, and ten steps of batches."""

    def __init__(self, resolved: Resolved, method: str, shape: str) -> None:
        self.tokenizer = load_tokenizer(resolved.tokenizer_path, None)
        dtype = torch.bfloat16 if method == "lora" else torch.float32
        self.model = load_model(resolved.model_path, None, "seq2seq", dtype)
        self.model = adapt(
            self.model, method, lora_settings(shape) if method == "lora" else {}, "seq2seq", STEPS
        ).train()
        weights = [p for p in self.model.parameters() if p.requires_grad]
        settings: dict[str, Any] = {"lr": RATES[method], "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
        groups = [{"params": weights}]
        self.optimizer = torch.optim.AdamW(groups, fused=True, **settings) if method == "lora" else None
        self.exact = ExactAdamW(groups, **settings) if method == "full" else None
        self.rows = load_tokens(resolved.tokens["train"])
        self.lengths = [(len(row["input_ids"]), len(row["labels"])) for row in self.rows]
        self.batches = self.drawn(order.STEPS_PER_POOL)

    def drawn(self, pool: int) -> list[dict[str, Tensor]]:
        """Ten batches of the shared order, sorted by length in pools of so many steps."""
        with patch.object(order, "STEPS_PER_POOL", pool):
            indices = order.epoch_order(self.lengths[: 50 * EXAMPLES_PER_STEP], EXAMPLES_PER_STEP, 0, 0)
        collate = collator_for(self.model, self.tokenizer, "seq2seq")
        every = [indices[n : n + EXAMPLES_PER_STEP] for n in range(0, len(indices), EXAMPLES_PER_STEP)]
        return [collate([self.rows[i] for i in chosen]) for chosen in every[:: len(every) // STEPS][:STEPS]]

    def steps(self, batches: list[dict[str, Tensor]], forward: type[T5Engine]) -> float:
        """Seconds of one pass over `batches`."""
        path = forward(self.model, bf16=True)
        began = time.perf_counter()
        for batch in batches:
            labels = batch["labels"]
            loss = path.loss(batch) / (labels >= 0).sum()
            loss.backward()
            optimizer = self.exact or self.optimizer
            assert optimizer is not None
            if self.exact is not None:
                self.exact.gradient_scale = min(1.0, 1.0 / (self.exact.gradient_norm() + 1e-6))
            else:
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            self.model.zero_grad()
        return time.perf_counter() - began


def training(trained: Trained) -> dict[str, Callable[[], float]]:
    """Ten steps with everything, and without each lever."""
    random = trained.drawn(1)

    def run(
        without: AbstractContextManager[Any], batches: list[dict[str, Tensor]], forward: type[T5Engine] = T5Engine
    ) -> float:
        with without:
            return trained.steps(batches, forward)

    own = trained.batches
    return {
        "all levers": lambda: run(nullcontext(), own),
        "length groups": lambda: run(nullcontext(), random),
        "operations in C++": lambda: run(without_native(), own),
        "loss on real rows alone": lambda: run(nullcontext(), own, AllRows),
    }


def generation(trained: Trained, inputs: list[list[int]]) -> dict[str, Callable[[], float]]:
    """All inputs, 32 at a time, with everything, and without each lever."""
    model = trained.model.merge_and_unload() if hasattr(trained.model, "merge_and_unload") else trained.model
    model.to(torch.bfloat16).eval()
    engine = T5Engine(model, bf16=True)
    constraints = Constraints((int(trained.tokenizer.eos_token_id),))

    def run(without: AbstractContextManager[Any], batch_size: int = 32, kind: type[T5Search] = T5Search) -> float:
        search = kind(engine)
        began = time.perf_counter()
        with without:
            list(search.write(inputs, NEW_TOKENS, constraints, batch_size))
        return time.perf_counter() - began

    return {
        "all levers": lambda: run(nullcontext()),
        "batches of 32 (8)": lambda: run(nullcontext(), batch_size=8),
        "finished rows dropped": lambda: run(nullcontext(), kind=AllTexts),
        "operations in C++": lambda: run(without_native()),
    }


def compare(ways: dict[str, Callable[[], float]], rounds: int) -> str:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            taken = way()
            if number:
                seconds[name].append(taken)
    best = median(seconds["all levers"])
    lines = ["| without | seconds | without ÷ with |", "| --- | --- | --- |"]
    lines += [f"| {name} | {median(taken):.2f} | {median(taken) / best:.2f} |" for name, taken in seconds.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="the folder of DialogSum's splits")
    parser.add_argument("--shape", choices=SHAPES.keys() - DECODERS, default="flan-t5-small")
    parser.add_argument("--method", choices=RATES, default="full")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    allocator.quick()
    with tempfile.TemporaryDirectory() as work:
        folder = RunFolder(Path(work))
        asked = recipe(arguments.shape, arguments.data, test=64)
        resolved = resolved_for(asked, folder)
        trained = Trained(resolved, arguments.method, arguments.shape)
        print(f"{arguments.shape}, {arguments.method}, training: {STEPS} steps of {EXAMPLES_PER_STEP}\n")
        print(compare(training(trained), arguments.rounds), flush=True)
        inputs = list(load_tokens(resolved.tokens["test"])["input_ids"])
        print(f"\ngeneration: {len(inputs)} dialogues, {NEW_TOKENS} tokens\n")
        print(compare(generation(trained, inputs), arguments.rounds))


if __name__ == "__main__":
    main()
