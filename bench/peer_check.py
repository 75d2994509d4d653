"""Do the models of a run serve without tuneoff? Plain transformers and peft, one dialogue at a time.

    python bench/peer_check.py RUN [--examples 20]

Loads each saved arm as its library's documentation says, generates for the first test dialogues,
and compares with the run's own predictions. Exits 1 where any differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer


def load(run: Path, arm: str, method: str, prepared: dict[str, Any], dtype: torch.dtype) -> tuple[Any, Any]:
    cls = AutoModelForSeq2SeqLM if prepared["model_class"] == "seq2seq" else AutoModelForCausalLM
    saved = run / "trials" / arm / "seed-0" / "model"
    if method == "full":
        return cls.from_pretrained(saved, dtype=dtype).eval(), AutoTokenizer.from_pretrained(saved)
    base = cls.from_pretrained(prepared["model_path"], revision=prepared["model_revision"], dtype=dtype)
    return PeftModel.from_pretrained(base, saved).eval(), AutoTokenizer.from_pretrained(saved)


def check(run: Path, arm: str, method: str, examples: int, recipe: dict[str, Any]) -> bool:
    prepared = json.loads((run / "prepared.json").read_text())
    result = json.loads((run / "trials" / arm / "seed-0" / "result.json").read_text())
    dtype = torch.bfloat16 if result["precision"].startswith("bf16") else torch.float32
    model, tokenizer = load(run, arm, method, prepared, dtype)
    causal = prepared["model_class"] == "causal"
    same = total = 0
    with (run / "trials" / arm / "seed-0" / "predictions.jsonl").open(encoding="utf-8") as file:
        for line in islice(file, examples):
            row = json.loads(line)
            prompt = recipe["prompt"].replace("{" + recipe["data"]["input"] + "}", row["input"])
            ids = tokenizer(prompt, return_tensors="pt").input_ids
            if ids.shape[1] > recipe["data"]["max_source_length"]:
                continue  # tuneoff cuts these before the prompt's last words
            with torch.no_grad():
                written = model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=recipe["evaluation"]["max_new_tokens"],
                    num_beams=recipe["evaluation"]["num_beams"],
                    do_sample=False,
                )[0]
            text = tokenizer.decode(written[ids.shape[1] :] if causal else written, skip_special_tokens=True).strip()
            total += 1
            same += text == row["prediction"]
            if text != row["prediction"]:
                print(f"  {arm} {row['id']}\n    run:  {row['prediction']}\n    peer: {text}")
    print(f"{arm}: {same} of {total} summaries the same")
    return same == total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--examples", type=int, default=20)
    arguments = parser.parse_args()
    recipe = yaml.safe_load((arguments.run / "recipe.yaml").read_text())
    arms = {name: arm["method"] for name, arm in recipe["arms"].items() if arm["method"] != "none"}
    same = [check(arguments.run, name, method, arguments.examples, recipe) for name, method in arms.items()]
    return int(not all(same))


if __name__ == "__main__":
    assert "tuneoff" not in sys.modules
    sys.exit(main())
