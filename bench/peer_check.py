"""Do the models of a run serve without tuneoff? Plain transformers and peft generate again; the summaries are compared.

    python bench/peer_check.py RUN [--batch-size 1]

Loads each saved arm as its library's documentation says, and generates for the whole test split in
batches like the run's (longest first), or of another size: then bf16 rounds otherwise, and where two
words are almost equally likely a summary may differ. So it may after a run with `training.engine: fast` in bf16, which
rounds elsewhere than transformers, and for a decoder-only model with `no_repeat_ngram_size` in batches above 1, where
transformers counts padding. Arms of the recipe that were not run are passed over. Exits 1 where any differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer


def load(run: Path, arm: str, method: str, resolved: dict[str, Any], dtype: torch.dtype) -> tuple[Any, Any]:
    cls = AutoModelForSeq2SeqLM if resolved["model_class"] == "seq2seq" else AutoModelForCausalLM
    saved = run / "trials" / arm / "seed-0" / "model"
    if method == "full":
        return cls.from_pretrained(saved, dtype=dtype).eval(), AutoTokenizer.from_pretrained(saved)
    base = cls.from_pretrained(resolved["model_path"], revision=resolved["model_revision"], dtype=dtype)
    return PeftModel.from_pretrained(base, saved).eval(), AutoTokenizer.from_pretrained(saved)


def encode(tokenizer: Any, recipe: dict[str, Any], dialogue: str) -> list[int]:
    """The prompt's ids; a long one loses the end of its dialogue, and keeps the words after it."""
    head, tail = recipe["prompt"].split("{" + recipe["data"]["input"] + "}")
    ids: list[int] = tokenizer(head + dialogue + tail).input_ids
    limit, kept = recipe["data"]["max_source_length"], len(tokenizer(tail).input_ids)
    return ids if len(ids) <= limit else ids[: limit - kept] + ids[-kept:]


@torch.no_grad()
def generate(
    model: Any, tokenizer: Any, inputs: list[list[int]], evaluation: dict[str, Any], causal: bool
) -> list[str]:
    batch = tokenizer.pad({"input_ids": inputs}, padding_side="left" if causal else "right", return_tensors="pt")
    written = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        max_new_tokens=evaluation["max_new_tokens"],
        do_sample=False,
        **evaluation.get("search", {}),
    )
    written = written[:, batch["input_ids"].shape[1] :] if causal else written
    return [text.strip() for text in tokenizer.batch_decode(written, skip_special_tokens=True)]


def check(run: Path, arm: str, method: str, batch_size: int | None, recipe: dict[str, Any]) -> bool:
    resolved = json.loads((run / "resolved.json").read_text())
    trial = run / "trials" / arm / "seed-0"
    bf16 = json.loads((trial / "result.json").read_text())["precision"].startswith("bf16")
    model, tokenizer = load(run, arm, method, resolved, torch.bfloat16 if bf16 else torch.float32)
    rows = [json.loads(line) for line in (trial / "predictions.jsonl").read_text(encoding="utf-8").split("\n") if line]
    inputs = [encode(tokenizer, recipe, row["input"]) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: len(inputs[i]), reverse=True)
    size = batch_size or recipe["evaluation"]["batch_size"]
    causal = resolved["model_class"] == "causal"
    same = 0
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        texts = generate(model, tokenizer, [inputs[i] for i in chosen], recipe["evaluation"], causal)
        same += sum(text == rows[i]["prediction"] for i, text in zip(chosen, texts, strict=True))
    print(f"{arm}: {same} of {len(rows)} summaries the same", flush=True)
    return same == len(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--batch-size", type=int)
    arguments = parser.parse_args()
    recipe = yaml.safe_load((arguments.run / "recipe.yaml").read_text())
    arms = {name: arm["method"] for name, arm in recipe["arms"].items() if arm["method"] != "none"}
    arms = {name: arms[name] for name in arms if (arguments.run / "trials" / name / "seed-0" / "result.json").exists()}
    same = [check(arguments.run, name, method, arguments.batch_size, recipe) for name, method in arms.items()]
    assert "tuneoff" not in sys.modules
    return int(not all(same))


if __name__ == "__main__":
    sys.exit(main())
