"""The text of a new recipe, with comments that say what may be changed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class NewRecipe:
    """What is filled in. `comments` stand behind their keys' values."""

    model: str
    data: dict[str, Any]
    prompt: str | None
    learning_rates: tuple[float, float]
    epochs: int
    max_new_tokens: int
    metrics: list[str]
    words: dict[str, str] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)


def recipe_text(new: NewRecipe) -> str:
    """The recipe as YAML."""
    full, lora = new.learning_rates
    parts = [
        "# Written by `tuneoff init`; all of it may be changed. docs/recipes.md explains every key.",
        *_commented("model", new),
        f"model: {_value(new.model)}",
        "data:",
        *(line for key, value in new.data.items() for line in _data_line(key, value, new)),
    ]
    if new.prompt is not None:
        parts += [
            "# What the model is asked. Say in your own words what to do with the columns in braces.",
            f"prompt: {_value(new.prompt)}",
        ]
    parts += [
        "# What is compared. In place of a learning rate, `tune: {learning_rate: [1.0e-4, 1.0e-3]}` searches for it.",
        "arms:",
        "  original: {method: none}",
        f"  full: {{method: full, learning_rate: {_rate(full)}}}",
        f"  lora: {{method: lora, learning_rate: {_rate(lora)}, r: 16, lora_alpha: 32, target_modules: all-linear}}",
        *_commented("training", new),
        f"training: {{epochs: {new.epochs}, examples_per_step: 8, precision: bf16, warmup_ratio: 0.05}}",
        "evaluation:",
        f"  max_new_tokens: {new.max_new_tokens}{_behind('max_new_tokens', new)}",
        f"  metrics: {_value(new.metrics)} # the first is judged; docs/metrics.md has others",
        "seeds: [0] # more seeds say more: [0, 1, 2]",
    ]
    if new.words:
        parts += [f"words: {_value(new.words)} # how the report calls an example and what is written for it"]
    return "\n".join(parts) + "\n"


def _commented(key: str, new: NewRecipe) -> list[str]:
    """The lines of a comment that stands above a key."""
    return [f"# {line}" for line in new.comments.get(key, "").splitlines()]


def _data_line(key: str, value: Any, new: NewRecipe) -> list[str]:
    return [f"  {key}: {_value(value)}{_behind(key, new)}"]


def _behind(key: str, new: NewRecipe) -> str:
    return f" # {new.comments[key]}" if key in new.comments else ""


def _value(value: Any) -> str:
    """A value in YAML's flow style: texts in quotation marks, as JSON has them."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _rate(rate: float) -> str:
    """5e-05 → '5.0e-5', which YAML 1.1 reads as a number."""
    mantissa, exponent = f"{rate:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"
