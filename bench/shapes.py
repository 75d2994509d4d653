"""The models that the benchmarks train, and their work: DialogSum with the course's prompt and settings."""

from __future__ import annotations

import sys
from typing import Any

from tuneoff.data.inputs import read_inputs
from tuneoff.folder import RunFolder
from tuneoff.model.engines import choose_engines
from tuneoff.progress import ProgressListener
from tuneoff.recipe.schema import Recipe
from tuneoff.records import Resolved
from tuneoff.runner.events import Reporter
from tuneoff.runner.resolve import resolve

FLAN = {"model_type": "t5", "vocab_size": 32128, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
SHAPES: dict[str, Any] = {
    "flan-t5-small": {**FLAN, "d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8, "num_heads": 6},
    "flan-t5-base": {**FLAN, "d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12, "num_heads": 12},
    "nano": "builtin:dialog-t5-nano",
    "llama-3m": {
        "model_type": "llama", "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True, "attention_dropout": 0.1,
    },
    "smollm2-135m": {
        "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
        "max_position_embeddings": 8192,
    },
    "llama-1b": {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": True,
        "max_position_embeddings": 8192,
    },
    "llama-8b": {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False,
        "max_position_embeddings": 8192,
    },
}  # fmt: skip
DECODERS = {"llama-3m", "smollm2-135m", "llama-1b", "llama-8b"}
LORA = {"r": 32, "lora_alpha": 32, "lora_dropout": 0.1}
RATES = {"full": 5e-5, "lora": 1e-3}


def lora_settings(shape: str) -> dict[str, Any]:
    """The course's LoRA of a T5; of a decoder-only model, LoRA on all linear layers."""
    return {**LORA, "target_modules": "all-linear" if shape in DECODERS else ["q", "v"]}


def recipe(shape: str, data: str, test: int) -> Recipe:
    """The course's comparison with random weights of a shape (or the model that ships) on `test` test dialogues."""
    model = SHAPES[shape]
    return Recipe.model_validate(
        {
            "model": {"config": model, "tokenizer": {"vocab_size": 16000}} if isinstance(model, dict) else model,
            "data": {
                "source": data,
                "input": "dialogue",
                "target": "summary",
                "limit": {"train": 4000, "validation": 64, "test": test},
            },
            "prompt": "Summarize the following conversation.\n{dialogue}\nSummary:",
            "arms": {
                "full": {"method": "full", "learning_rate": RATES["full"]},
                "lora": {"method": "lora", "learning_rate": RATES["lora"], **lora_settings(shape)},
            },
        }
    )


def resolved_for(asked: Recipe, folder: RunFolder, tell: ProgressListener | None = None) -> Resolved:
    """The run of `asked` in the new `folder`, resolved without a rehearsal or a plan; a whole step is a micro-batch."""
    tell = tell or Reporter(sys.stderr)
    inputs = read_inputs(asked, folder.base, tell)
    engines = choose_engines(inputs.config, asked.arms, asked.training)
    return resolve(asked, folder, inputs, tell, engines=engines, micro_batch=asked.training.examples_per_step)
