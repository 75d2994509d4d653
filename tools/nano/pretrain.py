"""Pretrain `builtin:dialog-t5-nano`: `python tools/nano/pretrain.py --corpus FOLDER --work FOLDER --steps N`.

In pieces: each call goes on from the last saved state in WORK and ends after `--minutes`, or when all steps are
done and the model lies in WORK/model. On a GPU where there is one. docs/nano.md says what was run.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from corpus import Document, read_corpus
from objectives import Encoded, Example, Objectives, Vocabulary
from primed import prime
from tokenizer import SENTINELS, train
from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

SEED = 0
HELD_OUT = 256  # documents
SCENE_DIALOGUES = 1200
WARM_UP, DECAY = 100, 0.3  # steps; share of the steps at the end in which the rate falls to nothing
# Learning rates: of matrices (Muon), of position biases (AdamW; they must grow to several units before a head
# looks at one place), of the embedding and the norms (AdamW).
RATES = {"matrices": 2e-3, "positions": 1e-2, "others": 2e-3}
COPIES = 0.1  # share of examples that are lines of random tokens, not documents
SAVE_EVERY, TELL_EVERY = 200, 20  # steps
IGNORED = -100
DROPOUT = 0.05  # what the finished model is fine-tuned with; none in pretraining


@dataclass(frozen=True)
class Stage:
    """Steps of one shape, so that the step compiles once: tokens of source and target, examples a step and at once."""

    share: float  # of all steps
    source: int
    target: int
    batch: int
    micro: int


# Short texts first: a step on them costs half as much.
STAGES = [
    Stage(0.5, 96, 48, 64, 32),
    Stage(0.5, 256, 64, 48, 16),
]

CONFIG = {
    "d_model": 256,
    "d_kv": 64,
    "d_ff": 512,
    "num_heads": 4,
    "num_layers": 3,
    "num_decoder_layers": 3,
    "feed_forward_proj": "gated-gelu",
    "dropout_rate": 0.0,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 1,
}


class Pretraining:
    """Model, optimizers and the place in the data, saved and restored as one."""

    def __init__(self, work: Path, steps: int, documents: list[Encoded], objectives: Objectives, size: int) -> None:
        self.work = work
        self.steps = steps
        self.held_out, self.documents = documents[:HELD_OUT], documents[HELD_OUT:]
        self.objectives = objectives
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(SEED)
        config = T5Config(vocab_size=size, attn_implementation="eager", **CONFIG)
        self.model = T5ForConditionalGeneration(config)  # its output layer is the embedding
        prime(self.model)
        self.model.to(self.device)
        groups: dict[str, list[torch.nn.Parameter]] = {name: [] for name in RATES}
        for name, parameter in self.model.named_parameters():
            kind = "positions" if "relative_attention_bias" in name else "others"
            groups["matrices" if kind == "others" and parameter.dim() == 2 and "block" in name else kind].append(
                parameter
            )
        adam = [{"params": groups[name], "lr": RATES[name]} for name in ("positions", "others")]
        self.optimizers = [
            torch.optim.Muon(
                groups["matrices"], lr=RATES["matrices"], weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(adam, weight_decay=0.0, betas=(0.9, 0.98), fused=True),
        ]
        self.rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self._ordered: tuple[int, list[int]] = (-1, [])
        self.step = 0
        self.tokens = 0
        self.seconds = 0.0
        compiled = self.device.type == "cuda" or shutil.which("c++") is not None
        self.loss = torch.compile(self._loss, dynamic=False) if compiled else self._loss

    def _loss(self, source: torch.Tensor, mask: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            out = self.model(input_ids=source, attention_mask=mask, labels=target, use_cache=False)
        return out.loss

    def restore(self) -> None:
        path = self.work / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.seconds,
        }
        torch.save(state, self.work / "state.tmp")
        (self.work / "state.tmp").replace(self.work / "state.pt")

    def run(self, minutes: float) -> bool:
        """Steps until `minutes` are over; True when all are done."""
        began = told = time.monotonic()
        losses: list[float] = []
        while self.step < self.steps:
            for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * self._share()
            examples = self._examples(self.step)
            losses.append(self._update(examples, self._stage(self.step)))
            self.step += 1
            self.tokens += sum(len(source) + len(target) for source, target in examples)
            now = time.monotonic()
            if self.step % TELL_EVERY == 0:
                self.seconds += now - told
                told = now
                self._tell(loss=sum(losses) / len(losses))
                losses = []
            if self.step % SAVE_EVERY == 0 or self.step == self.steps:
                self._tell(**self.evaluate())
                self.save()
            if now - began > minutes * 60 and self.step % TELL_EVERY == 0:
                self.save()
                return False
        return True

    def _share(self) -> float:
        """Of the full rate: up at the start of every stage, to nothing at the end of the last."""
        left = (self.steps - self.step) / (self.steps * DECAY)
        began = next(n for n in range(self.step, -1, -1) if n == 0 or self._stage(n) != self._stage(n - 1))
        return min(1.0, (self.step - began + 1) / WARM_UP, left)

    def _stage(self, step: int) -> Stage:
        """The first whose share of the steps, with those before it, is not yet over."""
        until = 0.0
        for stage in STAGES:
            until += stage.share
            if step < until * self.steps:
                return stage
        return STAGES[-1]

    def _examples(self, step: int) -> list[Example]:
        """The examples of a step, by its number alone, so that a resumed training sees what it would have seen."""
        count, stage = len(self.documents), self._stage(step)
        largest = max(stage.batch for stage in STAGES)
        chosen = []
        for n in range(step * largest, step * largest + stage.batch):
            rng = random.Random(f"{SEED}/{n}")
            if rng.random() < COPIES:
                chosen.append(self.objectives.copy(rng, stage.source))
                continue
            document = self.documents[self._order(n // count)[n % count]]
            chosen.append(self.objectives.draw(document, rng, stage.source, stage.target))
        return chosen

    def _order(self, epoch: int) -> list[int]:
        if self._ordered[0] != epoch:
            order = list(range(len(self.documents)))
            random.Random(f"{SEED}/order/{epoch}").shuffle(order)
            self._ordered = (epoch, order)
        return self._ordered[1]

    def _update(self, examples: list[Example], stage: Stage) -> float:
        total = 0.0
        self.model.train()
        for start in range(0, stage.batch, stage.micro):
            batch = self._batch(examples[start : start + stage.micro], stage)
            loss = self.loss(*batch) * stage.micro / stage.batch
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return total

    def _batch(self, examples: list[Example], stage: Stage) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        source = torch.zeros(len(examples), stage.source, dtype=torch.long)
        target = torch.full((len(examples), stage.target), IGNORED)
        for row, (inputs, outputs) in enumerate(examples):
            source[row, : len(inputs)] = torch.tensor(inputs)
            target[row, : len(outputs)] = torch.tensor(outputs)
        mask = (source != 0).long()
        return source.to(self.device), mask.to(self.device), target.to(self.device)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The loss on the held-out documents, each example the same one every time."""
        self.model.eval()
        rng, stage = random.Random(SEED), STAGES[-1]
        examples = [self.objectives.draw(document, rng, stage.source, stage.target) for document in self.held_out]
        losses = [
            self._loss(*self._batch(examples[start : start + stage.micro], stage)).item()
            for start in range(0, HELD_OUT, stage.micro)
        ]
        return {"held_out_loss": sum(losses) / len(losses)}

    def _tell(self, **values: float) -> None:
        row = {"step": self.step, "tokens": self.tokens, "seconds": round(self.seconds, 1), **values}
        with (self.work / "history.jsonl").open("a", encoding="utf-8") as history:
            history.write(json.dumps(row) + "\n")
        print(" ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)


def prepare(corpus: Path, work: Path) -> tuple[T5Tokenizer, list[Encoded]]:
    """The tokenizer and the documents in tokens, made once and kept in `work`."""
    documents = read_corpus(corpus, SEED, SCENE_DIALOGUES)
    folder, tokens = work / "tokenizer", work / "tokens.json"
    if not tokens.exists():
        print(f"{len(documents)} documents; training the tokenizer", flush=True)
        train(documents, SEED).save_pretrained(folder)
    tokenizer = T5Tokenizer.from_pretrained(folder)
    if not tokens.exists():
        tokens.write_text(json.dumps([_encode(tokenizer, document) for document in documents]))
    units = json.loads(tokens.read_text())
    return tokenizer, [Encoded(document, ids) for document, ids in zip(documents, units, strict=True)]


def _encode(tokenizer: T5Tokenizer, document: Document) -> list[list[int]]:
    return tokenizer(document.units, add_special_tokens=False, verbose=False).input_ids


def finished(model: T5ForConditionalGeneration) -> T5ForConditionalGeneration:
    """In bf16 and T5 v1.1's layout, whose output layer is its own: the embedding, scaled as a tied T5 scales it."""
    head = torch.nn.Linear(model.config.d_model, model.config.vocab_size, bias=False)
    head.weight.data = model.shared.weight.data.cpu() * model.config.d_model**-0.5
    model.lm_head = head
    model.config.tie_word_embeddings = model.config.scale_decoder_outputs = False
    model.config.dropout_rate = model.config.classifier_dropout = DROPOUT
    return model.cpu().to(torch.bfloat16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="the folder of the texts (docs/nano.md)")
    parser.add_argument("--work", type=Path, required=True, help="where state and model are kept")
    parser.add_argument("--steps", type=int, required=True, help="in all")
    parser.add_argument("--minutes", type=float, default=1e9, help="end this piece after so long")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    tokenizer, documents = prepare(arguments.corpus, arguments.work)
    vocabulary = Vocabulary(
        [tokenizer.convert_tokens_to_ids(f"<extra_id_{n}>") for n in range(SENTINELS)],
        tokenizer.eos_token_id,
        range(tokenizer.unk_token_id + 1, len(tokenizer) - SENTINELS),
    )
    objectives = Objectives(lambda text: tokenizer(text, add_special_tokens=False).input_ids, vocabulary)
    training = Pretraining(arguments.work, arguments.steps, documents, objectives, len(tokenizer))
    training.restore()
    if not training.run(arguments.minutes):
        sys.exit(f"{training.step} of {arguments.steps} steps done; the same command goes on")
    finished(training.model).save_pretrained(arguments.work / "model")
    tokenizer.save_pretrained(arguments.work / "model")


if __name__ == "__main__":
    main()
