"""What other searches would have written: `python bench/decoding.py RUN --num-beams 4`.

Every finished arm of a run of a seq2seq model (seed 0) writes its dialogues again with these settings, by plain
transformers and peft in fp32, and is scored as tuneoff scores. The run's own scores stand beside; its folder is left
as it is.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import yaml
from tqdm import tqdm
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from peer_check import encode, load
from tuneoff.score.metrics import find_metric

METRICS = ("rouge1", "rouge2", "rougeL")
BATCH = 25  # dialogues at a time


def _mean(metric: str, texts: list[str], rows: list[dict[str, Any]]) -> float:
    """The mean of a metric × 100 of `texts` over the examples of a run."""
    found = find_metric(metric)
    score = found.prepare([row["references"] for row in rows]).score
    pairs = zip(texts, rows, strict=True)
    return 100 * mean(found.of_example(score(text, row["references"])) for text, row in pairs)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--num-beams", type=int, default=1)
    parser.add_argument("--no-repeat-ngram-size", type=int, default=0)
    parser.add_argument("--min-new-tokens", type=int, default=0)
    arguments = parser.parse_args()
    recipe = yaml.safe_load((arguments.run / "recipe.yaml").read_text())
    resolved = json.loads((arguments.run / "resolved.json").read_text())
    if resolved["model_class"] != "seq2seq":
        parser.error(f"{arguments.run}: a run of a {resolved['model_class']} model, not of a seq2seq one")
    for arm, settings in recipe["arms"].items():
        predictions = arguments.run / "trials" / arm / "seed-0" / "predictions.jsonl"
        if not predictions.exists():
            continue
        if settings["method"] == "none":
            path, revision = resolved["model_path"], resolved["model_revision"]
            model = AutoModelForSeq2SeqLM.from_pretrained(path, revision=revision, dtype=torch.float32).eval()
            tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
        else:
            model, tokenizer = load(arguments.run, arm, settings["method"], resolved, torch.float32)
        rows = [json.loads(line) for line in predictions.read_text(encoding="utf-8").split("\n") if line]
        inputs = [encode(tokenizer, recipe, row["input"]) for row in rows]
        order = sorted(range(len(rows)), key=lambda i: len(inputs[i]), reverse=True)
        texts, before = [""] * len(rows), [row["prediction"] for row in rows]
        for start in tqdm(range(0, len(order), BATCH), desc=arm, leave=False):
            chosen = order[start : start + BATCH]
            batch = tokenizer.pad({"input_ids": [inputs[i] for i in chosen]}, return_tensors="pt")
            written = model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=recipe["evaluation"]["max_new_tokens"],
                num_beams=arguments.num_beams,
                no_repeat_ngram_size=arguments.no_repeat_ngram_size,
                min_new_tokens=arguments.min_new_tokens,
                do_sample=False,
            )
            for i, text in zip(chosen, tokenizer.batch_decode(written, skip_special_tokens=True), strict=True):
                texts[i] = text.strip()
        now, then = (" / ".join(f"{_mean(name, own, rows):.1f}" for name in METRICS) for own in (texts, before))
        words = mean(len(text.split()) for text in texts)
        print(f"{arm}: ROUGE-1/2/L {now}, {words:.0f} words a text; the run's own {then}", flush=True)


if __name__ == "__main__":
    main()
