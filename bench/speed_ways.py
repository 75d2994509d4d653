"""The ways of bench/speed.py, each run in a process of its own: `python bench/speed_ways.py NAME SPEC.json`.

It reads orders (`train N` steps, `memory N` steps, `finish`, `generate N` dialogues) from standard input and answers
each with a line of JSON. Training is the library's own loop, held up between orders.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    set_seed,
)

from shapes import RATES, lora_settings
from tuneoff.data.tokens import load_tokens
from tuneoff.decode.generate import generate
from tuneoff.folder import TrialFolder
from tuneoff.measure import allocator
from tuneoff.measure.clock import Clock
from tuneoff.measure.memory import MemoryMeter
from tuneoff.model.base import load_config, load_model, model_class
from tuneoff.model.device import pick_precision
from tuneoff.model.engines import ENGINES, Engine, engine_for
from tuneoff.model.merge import merged_for_generation
from tuneoff.model.methods import adapt
from tuneoff.model.tokenizer import load_tokenizer
from tuneoff.recipe.evaluation import SearchSpec
from tuneoff.recipe.training import TrainingSpec
from tuneoff.train.loop import Training
from tuneoff.train.steps import Steps

EXAMPLES_PER_STEP = 8
NEW_TOKENS = 64
PADDED, PADDED_TARGET = 512, 128  # tokens; a decoder-only model has both in one text
PRECISION = pick_precision("bf16", torch.device("cpu"))  # fp32 on a machine without bf16 arithmetic
BF16 = PRECISION.name == "bf16"


@dataclass(frozen=True)
class Spec:
    """The work: a model, tokens, and how often the first `examples` are trained on."""

    shape: str
    model: str
    tokenizer: str
    tokens: dict[str, str]
    examples: int
    rounds: int
    work: str


@dataclass(frozen=True)
class WayOf:
    """What tells the ways apart: whose loop, how it pads, what it computes in, and whether the base is frozen."""

    ours: bool
    padded: bool
    bf16: bool
    frozen: bool

    @property
    def method(self) -> str:
        return "lora" if self.frozen else "full"


WAYS = {
    "notebook": WayOf(ours=False, padded=True, bf16=False, frozen=False),
    "tuned": WayOf(ours=False, padded=False, bf16=True, frozen=False),
    "tuneoff-full": WayOf(ours=True, padded=False, bf16=True, frozen=False),
    "tuneoff-lora": WayOf(ours=True, padded=False, bf16=True, frozen=True),
    "peft": WayOf(ours=False, padded=False, bf16=True, frozen=True),
}


class Orders:
    """What the parent asks for, and what it is told."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what libraries print is not an answer
        self._left = 0
        self._began = 0.0
        self._asked = 0
        self._meter: MemoryMeter | None = None
        self.finished = False

    def answer(self, **values: float) -> None:
        self._answers.write(json.dumps(values) + "\n")
        self._answers.flush()

    def read(self) -> tuple[str, int]:
        order, count = sys.stdin.readline().split()
        return order, int(count)

    def begin(self, meter: MemoryMeter) -> None:
        """Before the first step: wait for the first order."""
        self._meter = meter
        self.answer()
        self._wait()

    def step_done(self) -> None:
        """After a step: go on, or answer and wait."""
        self._left -= 1
        if self._left:
            return
        seconds = time.perf_counter() - self._began
        assert self._meter is not None
        self.answer(seconds=seconds, examples=self._asked * EXAMPLES_PER_STEP, bytes=self._meter.end_phase().peak or 0)
        self._wait()

    def _wait(self) -> None:
        order, self._asked = self.read()
        if order == "finish":
            self.finished = True
            return
        (allocator.tidy if order == "memory" else allocator.quick)()
        assert self._meter is not None
        self._meter.start_phase()
        self._left, self._began = self._asked, time.perf_counter()


class Held(TrainerCallback):
    """Trainer's loop, held up between orders."""

    def __init__(self, orders: Orders, meter: MemoryMeter) -> None:
        self._orders, self._meter = orders, meter

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._orders.begin(self._meter)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._orders.step_done()
        control.should_training_stop = self._orders.finished


def train_plainly(way: WayOf, spec: Spec, model: Any, tokenizer: Any, orders: Orders, meter: MemoryMeter) -> None:
    """Seq2SeqTrainer, as its documentation advises for speed or, `padded`, as the course's notebook has it."""
    arguments = Seq2SeqTrainingArguments(
        output_dir=f"{spec.work}/plain",
        seed=0,
        num_train_epochs=spec.rounds,
        learning_rate=RATES[way.method],
        per_device_train_batch_size=EXAMPLES_PER_STEP,
        bf16=way.bf16 and BF16,
        optim="adamw_torch_fused",
        train_sampling_strategy="random" if way.padded else "group_by_length",
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
    )
    longest = PADDED + (0 if model.config.is_encoder_decoder else PADDED_TARGET)
    fixed = {"padding": "max_length", "max_length": longest}
    collator = DataCollatorForSeq2Seq(tokenizer, model=model, **(fixed if way.padded else {"pad_to_multiple_of": 8}))
    trainer = Seq2SeqTrainer(
        model=model,
        args=arguments,
        train_dataset=load_tokens(spec.tokens["train"]).select(range(spec.examples)),
        data_collator=collator,
        callbacks=[Held(orders, meter)],
    )
    trainer.train()


def train_by_tuneoff(way: WayOf, spec: Spec, model: Any, tokenizer: Any, orders: Orders, meter: MemoryMeter) -> None:
    steps = Steps(
        train=load_tokens(spec.tokens["train"]).select(range(spec.examples)),
        validation=None,
        seed=0,
        examples_per_step=EXAMPLES_PER_STEP,
        count=spec.rounds * spec.examples // EXAMPLES_PER_STEP,
    )
    training = Training(
        fastest(model),
        tokenizer,
        steps,
        TrainingSpec(examples_per_step=EXAMPLES_PER_STEP, checkpoint_minutes=1e6),
        RATES[way.method],
        TrialFolder(Path(spec.work) / way.method),
        Clock(lambda: None),
    )
    training.run(lambda _: orders.begin(meter), lambda *_: orders.step_done(), lambda: orders.finished)


def fastest(model: Any) -> Engine:
    """The fastest engine that computes `model`."""
    return engine_for(next(name for name, engine in ENGINES.items() if engine.suits(model) is None), model, bf16=BF16)


@torch.no_grad()
def held_out_loss(model: Any, tokenizer: Any, spec: Spec) -> float:
    """In nats a target token, by plain transformers in fp32: the same yardstick for all."""
    model.eval().float()
    collate = DataCollatorForSeq2Seq(tokenizer, model=model)
    total, count = 0.0, 0
    rows = load_tokens(spec.tokens["validation"])
    for start in range(0, len(rows), 16):
        batch = collate([rows[i] for i in range(start, min(len(rows), start + 16))])
        labels = batch.pop("labels")
        logits = model(**batch, labels=labels).logits
        if not model.config.is_encoder_decoder:
            logits, labels = logits[:, :-1], labels[:, 1:]
        flat = logits.flatten(0, 1), labels.flatten()
        total += float(torch.nn.functional.cross_entropy(*flat, reduction="sum"))
        count += int((labels >= 0).sum())
    return total / count


def generator(way: WayOf, model: Any, tokenizer: Any) -> Callable[[list[list[int]]], None]:
    """How this way writes summaries: one by one in fp32, in sorted batches in bf16, or as tuneoff does."""
    if way.padded:

        def one_by_one(inputs: list[list[int]]) -> None:
            for ids in inputs:
                model.generate(input_ids=torch.tensor([ids]), max_new_tokens=NEW_TOKENS, do_sample=False)

        return one_by_one
    model.to(PRECISION.dtype)
    if way.ours:
        engine = fastest(merged_for_generation(model, fastest(model).name))

        def by_tuneoff(inputs: list[list[int]]) -> None:
            generate(
                engine,
                tokenizer,
                inputs,
                max_new_tokens=NEW_TOKENS,
                search=SearchSpec(),
                batch_size=32,
                report=lambda *_: None,
            )

        return by_tuneoff

    side = "right" if model.config.is_encoder_decoder else "left"

    def in_batches(inputs: list[list[int]]) -> None:
        longest_first = sorted(inputs, key=len, reverse=True)
        for start in range(0, len(longest_first), 32):
            rows = {"input_ids": longest_first[start : start + 32]}
            batch = tokenizer.pad(rows, padding_side=side, return_tensors="pt")
            model.generate(**batch, max_new_tokens=NEW_TOKENS, do_sample=False)

    return in_batches


def main() -> None:
    way, spec = WAYS[sys.argv[1]], Spec(**json.loads(Path(sys.argv[2]).read_text()))
    orders = Orders()
    tokenizer = load_tokenizer(spec.tokenizer, None)
    allocator.tidy()
    meter = MemoryMeter(torch.device("cpu"))
    set_seed(0)
    lean = way.ours and way.frozen  # peft's own example keeps the base in fp32 under autocast
    kind = model_class(load_config(spec.model, None))
    model = load_model(spec.model, None, kind, PRECISION.dtype if lean else torch.float32)
    model = adapt(model, way.method, lora_settings(spec.shape) if way.frozen else {}, kind, steps=1)
    (train_by_tuneoff if way.ours else train_plainly)(way, spec, model, tokenizer, orders, meter)
    orders.answer(loss=held_out_loss(model, tokenizer, spec))
    write = generator(way, model.eval(), tokenizer)
    inputs = load_tokens(spec.tokens["test"])["input_ids"]
    allocator.quick()
    while True:
        _, count = orders.read()
        began = time.perf_counter()
        write(list(inputs)[:count])
        orders.answer(seconds=time.perf_counter() - began, examples=count)


if __name__ == "__main__":
    main()
