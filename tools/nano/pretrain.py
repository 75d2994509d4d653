"""Pretrain `builtin:dialog-t5-nano`: `python tools/nano/pretrain.py --corpus FOLDER --work FOLDER --steps N`.

In pieces: each call goes on from the last saved state in WORK and ends after `--minutes`, or when all steps are
done and the model lies in WORK/model. On a GPU where there is one. docs/nano.md says what was run.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from affairs import Affairs
from corpus import Document, read_corpus, shared_slots
from objectives import Encoded, Example, Objectives, Vocabulary
from phrases import find_phrases
from primed import prime
from tokenizer import SENTINELS, train
from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

from tuneoff.model.engines.t5 import T5Engine

SEED = 0
HELD_OUT = 256  # documents
SCENE_DIALOGUES, SKETCH_DIALOGUES = 1200, 6000
WARM_UP, DECAY = 100, 0.3  # steps; share of the steps at the end in which the rate falls to nothing
# Learning rates: of matrices (Muon), of position biases (AdamW; they must grow to several units before a head
# looks at one place), of the embedding and the norms (AdamW).
RATES = {"matrices": 2e-3, "positions": 1e-2, "others": 2e-3}
EXAMPLES, SOURCE, TARGET = 64, 320, 80  # a step; the most tokens of each
AT_ONCE = 4096  # tokens of source and target, padded
SAVE_EVERY, TELL_EVERY = 200, 20  # steps
IGNORED = -100
DROPOUT = 0.05  # what the finished model is fine-tuned with; none in pretraining

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
    """Model, optimizers and the place in the data, saved and restored as one.

    Passes run in bf16 by tuneoff's T5 engine, on copies of the fp32 weights that the optimizers move.
    """

    def __init__(
        self, work: Path, steps: int, documents: list[Encoded], objectives: Objectives, size: int, start: Path | None
    ) -> None:
        self.work = work
        self.steps = steps
        self.held_out, self.documents = documents[:HELD_OUT], documents[HELD_OUT:]
        self.objectives = objectives
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(SEED)
        self.model = T5ForConditionalGeneration(
            T5Config(vocab_size=size, **CONFIG)
        )  # its output layer is the embedding
        if start is None:
            prime(self.model)
        else:
            begun = T5ForConditionalGeneration.from_pretrained(start, dtype=torch.float32).state_dict()
            self.model.load_state_dict({k: v for k, v in begun.items() if k != "lm_head.weight"}, strict=False)
            self.model.tie_weights()
        self.model.to(self.device)
        self.masters = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.model.to(torch.bfloat16)
        self.engine = T5Engine(self.model, bf16=True)
        groups: dict[str, list[torch.Tensor]] = {name: [] for name in RATES}
        for name, weight in self.masters.items():
            kind = "positions" if "relative_attention_bias" in name else "others"
            groups["matrices" if kind == "others" and weight.dim() == 2 and "block" in name else kind].append(weight)
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

    def restore(self) -> None:
        path = self.work / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        for name, weight in self.masters.items():
            weight.copy_(state["weights"][name])
        self._hand_out()
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]

    def save(self) -> None:
        state = {
            "weights": self.masters,
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
            share = min(1.0, (self.step + 1) / WARM_UP, (self.steps - self.step) / (self.steps * DECAY))
            for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * share
            examples = self._examples(self.step)
            losses.append(self._update(examples))
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

    def _examples(self, step: int) -> list[Example]:
        """The examples of a step, by its number alone, so that a resumed training sees what it would have seen."""
        count = len(self.documents)
        chosen = []
        for n in range(step * EXAMPLES, (step + 1) * EXAMPLES):
            document = self.documents[self._order(n // count)[n % count]]
            chosen.append(self.objectives.draw(document, random.Random(f"{SEED}/{n}"), SOURCE, TARGET))
        return chosen

    def _order(self, epoch: int) -> list[int]:
        if self._ordered[0] != epoch:
            order = list(range(len(self.documents)))
            random.Random(f"{SEED}/order/{epoch}").shuffle(order)
            self._ordered = (epoch, order)
        return self._ordered[1]

    def _update(self, examples: list[Example]) -> float:
        """One step; the loss in nats a target token."""
        tokens = sum(len(target) for _, target in examples)
        total = 0.0
        self.model.train()
        for batch in self._batches(examples):
            loss = self.engine.loss(batch) / tokens
            loss.backward()
            total += float(loss.detach())
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                self.masters[name].grad = parameter.grad.float()
                parameter.grad = None
        torch.nn.utils.clip_grad_norm_(self.masters.values(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self._hand_out()
        return total

    @torch.no_grad()
    def _hand_out(self) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.copy_(self.masters[name])

    def _batches(self, examples: list[Example]) -> Iterator[dict[str, torch.Tensor]]:
        """Batches of examples of like lengths, at most `AT_ONCE` tokens each with their padding."""
        longest_first = sorted(examples, key=lambda example: len(example[0]), reverse=True)
        while longest_first:
            width = len(longest_first[0][0])
            taken = max(1, AT_ONCE // (width + max(len(target) for _, target in longest_first)))
            now, longest_first = longest_first[:taken], longest_first[taken:]
            source = torch.zeros(len(now), width, dtype=torch.long)
            target = torch.full((len(now), max(len(t) for _, t in now)), IGNORED)
            for row, (inputs, outputs) in enumerate(now):
                source[row, : len(inputs)] = torch.tensor(inputs)
                target[row, : len(outputs)] = torch.tensor(outputs)
            batch = {
                "input_ids": source,
                "attention_mask": (source != 0).long(),
                "decoder_input_ids": self.model._shift_right(target),
                "labels": target,
            }
            yield {name: tensor.to(self.device) for name, tensor in batch.items()}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """The loss on the held-out documents, each example the same one every time."""
        self.model.eval()
        rng = random.Random(SEED)
        examples = [self.objectives.draw(document, rng, SOURCE, TARGET) for document in self.held_out]
        total = sum(float(self.engine.loss(batch)) for batch in self._batches(examples))
        return {"held_out_loss": total / sum(len(target) for _, target in examples)}

    def _tell(self, **values: float) -> None:
        row = {"step": self.step, "tokens": self.tokens, "seconds": round(self.seconds, 1), **values}
        with (self.work / "history.jsonl").open("a", encoding="utf-8") as history:
            history.write(json.dumps(row) + "\n")
        print(" ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)


def prepare(corpus: Path, work: Path, start: Path | None) -> tuple[T5Tokenizer, list[Encoded]]:
    """The tokenizer (that of the model `start`, else a new one) and the documents in tokens, kept in `work`."""
    documents = read_corpus(corpus, SEED, SCENE_DIALOGUES, SKETCH_DIALOGUES)
    folder, tokens = work / "tokenizer", work / "tokens.json"
    if not tokens.exists():
        print(f"{len(documents)} documents", flush=True)
        (T5Tokenizer.from_pretrained(start) if start else train(documents, SEED)).save_pretrained(folder)
    tokenizer = T5Tokenizer.from_pretrained(folder)
    if not tokens.exists():
        tokens.write_text(json.dumps([_encode(tokenizer, document) for document in documents]))
    units = json.loads(tokens.read_text())
    return tokenizer, [Encoded(document, ids) for document, ids in zip(documents, units, strict=True)]


def _encode(tokenizer: T5Tokenizer, document: Document) -> list[list[int]]:
    return tokenizer(document.units, add_special_tokens=False, verbose=False).input_ids


def finished(model: T5ForConditionalGeneration, masters: dict[str, torch.Tensor]) -> T5ForConditionalGeneration:
    """In bf16 and T5 v1.1's layout, whose output layer is its own: the embedding, scaled as a tied T5 scales it."""
    head = torch.nn.Linear(model.config.d_model, model.config.vocab_size, bias=False)
    head.weight.data = masters["shared.weight"].cpu() * model.config.d_model**-0.5
    model.lm_head = head
    model.config.tie_word_embeddings = model.config.scale_decoder_outputs = False
    model.config.dropout_rate = model.config.classifier_dropout = DROPOUT
    return model.cpu().to(torch.bfloat16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="the folder of the texts (docs/nano.md)")
    parser.add_argument("--work", type=Path, required=True, help="where state and model are kept")
    parser.add_argument("--steps", type=int, required=True, help="in all")
    parser.add_argument(
        "--start", type=Path, help="a model to go on from, with its tokenizer; else from primed weights"
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="end this piece after so long")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    tokenizer, documents = prepare(arguments.corpus, arguments.work, arguments.start)
    vocabulary = Vocabulary(
        [tokenizer.convert_tokens_to_ids(f"<extra_id_{n}>") for n in range(SENTINELS)],
        tokenizer.eos_token_id,
        range(tokenizer.unk_token_id + 1, len(tokenizer) - SENTINELS),
    )
    affairs = Affairs(shared_slots(), find_phrases(encoded.document for encoded in documents[HELD_OUT:]))
    objectives = Objectives(lambda text: tokenizer(text, add_special_tokens=False).input_ids, vocabulary, affairs)
    training = Pretraining(arguments.work, arguments.steps, documents, objectives, len(tokenizer), arguments.start)
    training.restore()
    if not training.run(arguments.minutes):
        sys.exit(f"{training.step} of {arguments.steps} steps done; the same command goes on")
    finished(training.model, training.masters).save_pretrained(arguments.work / "model")
    tokenizer.save_pretrained(arguments.work / "model")


if __name__ == "__main__":
    main()
