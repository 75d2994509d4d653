"""Small true inputs: dialogues with a fact that the summary states, tiny models, and runs of them."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.forked import Subprocess
from tuneoff.runner import process

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana")
THINGS = ("a lamp", "two tickets", "the blue bike", "a tent", "the piano", "some chairs")
DAYS = ("Monday", "Tuesday", "Friday", "Sunday")
PROMPT = "Summarize the following conversation.\n{dialogue}\nSummary:"


def dialogue(number: int) -> tuple[str, str, str]:
    """A dialogue, its summary, and a second summary in other words."""
    rng = random.Random(number)
    name, thing, day, price = rng.choice(NAMES), rng.choice(THINGS), rng.choice(DAYS), rng.randrange(5, 95)
    lines = [
        f"#Person1#: Hello {name}, do you still have {thing}?",
        f"#Person2#: Yes, for {price} dollars.",
        *(f"#Person1#: Hm, let me think, {rng.choice(NAMES)} said less." for _ in range(rng.randrange(4))),
        f"#Person1#: Fine. I will come on {day}.",
    ]
    first = f"#Person1# buys {thing} from {name} for {price} dollars and comes on {day}."
    second = f"{name} sells {thing} to #Person1#, who comes on {day}."
    return "\n".join(lines), first, second


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 training rows, 6 for validation, and 5 test dialogues with two references each, in the hub's layout."""
    folder = tmp_path_factory.mktemp("data")
    for split, numbers in (("train", range(40)), ("validation", range(100, 106))):
        rows = [{"id": f"{split}_{n}", "dialogue": d, "summary": s} for n in numbers for d, s, _ in [dialogue(n)]]
        write_jsonl(folder / f"{split}.jsonl", rows)
    rows = [
        {"id": f"test_{n}_{k}", "dialogue": d, "summary": s}
        for n in range(200, 205)
        for d, first, second in [dialogue(n)]
        for k, s in enumerate((first, second), start=1)
    ]
    write_jsonl(folder / "test.jsonl", rows)
    return folder


MODELS: dict[str, dict[str, Any]] = {
    "seq2seq": {
        "model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
    },
    "causal": {
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    },
}  # fmt: skip
TARGETS = {"seq2seq": ["q", "v"], "causal": ["q_proj", "v_proj"]}


def recipe_values(data_folder: Path, model_class: str = "seq2seq", layers: int = 2) -> dict[str, Any]:
    """A recipe of three arms that takes seconds, as the values of its YAML."""
    config = {**MODELS[model_class], "num_layers" if model_class == "seq2seq" else "num_hidden_layers": layers}
    return {
        "model": {"config": config, "tokenizer": {"vocab_size": 400}},
        "data": {"source": str(data_folder), "input": "dialogue", "target": "summary"},
        "prompt": PROMPT,
        "arms": {
            "original": {"method": "none"},
            "full": {"method": "full", "learning_rate": 1e-2},
            "lora": {
                "method": "lora", "learning_rate": 5e-3, "r": 4, "lora_alpha": 8, "lora_dropout": 0.1,
                "target_modules": TARGETS[model_class],
            },
        },
        "training": {"epochs": 2, "examples_per_step": 8, "precision": "fp32"},
        "evaluation": {"max_new_tokens": 12, "batch_size": 4},
        "diagnose": "off",
    }  # fmt: skip


LONG = (
    "cli/test_interrupted", "use/test_export", "test_notebook", "runner/test_damaged_runs", "runner/test_kills",
    "planner/test_planner", "runner/test_rehearsal", "use/serve/test_api", "cli/test_run", "test_api", "cli/test_plan",
    "runner/test_child", "train/test_processes", "train/test_loop", "train/test_checks", "train/test_split",
    "cli/test_init",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first: one that began last would keep one process at work when the others have none."""
    places = {Path(__file__).parent / f"{name}.py": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tokens of tests go to a cache of their own."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True, scope="session")
def forked_children(own_cache: None) -> Iterator[None]:
    """Children of runs are forks of a process that has loaded the libraries, where the platform can do it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(process, "subprocess", Subprocess)
        yield
