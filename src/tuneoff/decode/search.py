"""How texts are searched for: what the recipe says, and what the model's own generation config adds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

# Settings that change what greedy search writes, with the value that does not.
STEERING: dict[str, Any] = {
    "forced_bos_token_id": None, "forced_eos_token_id": None, "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0, "repetition_penalty": 1, "encoder_repetition_penalty": 1, "min_length": 0,
    "min_new_tokens": 0, "suppress_tokens": [], "begin_suppress_tokens": [], "bad_words_ids": [], "sequence_bias": {},
    "exponential_decay_length_penalty": None, "guidance_scale": 1,
}  # fmt: skip


def search_settings(
    model: Any, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int, num_beams: int
) -> GenerationConfig:
    """How `generate` searches. What it leaves open, transformers takes from the model's own generation config."""
    from transformers import GenerationConfig

    own = model.generation_config
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        # A pretrained model may know more ends than its tokenizer (chat models do).
        eos_token_id=own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id,
        bos_token_id=own.bos_token_id,
        decoder_start_token_id=own.decoder_start_token_id,
        forced_bos_token_id=own.forced_bos_token_id,
        forced_eos_token_id=own.forced_eos_token_id,
    )


def steering(config: GenerationConfig) -> list[str]:
    """The settings of `config` that change what greedy search writes."""
    return [name for name, idle in STEERING.items() if getattr(config, name, None) not in (None, idle)]
