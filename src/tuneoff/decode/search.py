"""The settings of text search: those of the recipe, and those that the model itself needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuneoff.recipe.evaluation import SearchSpec
from tuneoff.records import ChatFrame

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase

# Settings of a model's own generation config that change the texts, with the value that changes nothing. They are not
# used: the authors of the model chose them for other texts, and the recipe says how to search.
LEFT_OFF: dict[str, Any] = {
    "min_length": 0, "min_new_tokens": 0, "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0,
    "repetition_penalty": 1, "encoder_repetition_penalty": 1, "length_penalty": 1, "early_stopping": False,
    "exponential_decay_length_penalty": (0, 1), "guidance_scale": 1,
}  # fmt: skip
# Settings that force or forbid tokens (the code of a language, padding). They are kept.
STEERING: dict[str, Any] = {
    "forced_bos_token_id": None, "forced_eos_token_id": None, "suppress_tokens": [], "begin_suppress_tokens": [],
    "bad_words_ids": [], "sequence_bias": {},
}  # fmt: skip
OF_BEAMS = {"length_penalty", "early_stopping"}  # without effect where there is one beam
OVERRULED = {"max_length", "max_new_tokens", "do_sample", *SearchSpec.model_fields}  # given by the recipe
SAMPLING = {"temperature", "top_k", "top_p", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"}


def search_settings(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    max_new_tokens: int,
    search: SearchSpec,
    chat: ChatFrame | None = None,
) -> GenerationConfig:
    """The complete generation config for transformers' `generate`. The last token of an answer by `chat` is an end.

    Settings that are not used are set to values without effect, because transformers takes what is not set from the
    model's own generation config.
    """
    from transformers import GenerationConfig

    own = model.generation_config
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=_ends(own, model.config.get_text_config(decoder=True), tokenizer, chat),
    )
    config.update(**{name: LEFT_OFF[name] for name in _set(own, LEFT_OFF)})
    config.update(**dict(search))
    dropped = LEFT_OFF.keys() | OVERRULED | SAMPLING
    kept = {name: value for name, value in own.to_dict().items() if name not in dropped}
    config.update(**kept, defaults_only=True, allow_custom_entries=True)
    return config


def _ends(*places: Any) -> list[int]:
    """Every token that ends a text, according to the model or to its tokenizer.

    A chat model may have more of these tokens than its tokenizer. A tokenizer may have another one than the model, and
    the targets of training end with the tokenizer's.
    """
    found: list[int] = []
    for place in places:
        ids = place.end_ids[-1] if isinstance(place, ChatFrame) else getattr(place, "eos_token_id", None)
        found += ids if isinstance(ids, list) else [] if ids is None else [ids]
    return list(dict.fromkeys(found))


def steering(config: GenerationConfig) -> list[str]:
    """The names of the settings of `config` that force or forbid tokens. They are kept."""
    return _set(config, STEERING)


def left_off(config: GenerationConfig, search: SearchSpec) -> list[str]:
    """The settings of a model's own `config` that would change the texts and are not used, such as `min_length 56`."""
    idle = search.changed.keys() | (OF_BEAMS if search.num_beams == 1 else set())
    names = [name for name in _set(config, LEFT_OFF) if name not in idle]
    return [f"{name} {getattr(config, name)}" for name in names]


def searched_by(search: SearchSpec) -> str:
    """`search` as signatures write it: `greedy`, `beam4`, `beam4+no_repeat_ngram_size=3`."""
    more = [f"{name}={value}" for name, value in search.changed.items() if name != "num_beams"]
    return "+".join(["greedy" if search.num_beams == 1 else f"beam{search.num_beams}", *more])


def _set(config: GenerationConfig, idle: dict[str, Any]) -> list[str]:
    """The names in `idle` to which `config` gives another value than `idle` does."""
    return [name for name, value in idle.items() if getattr(config, name, None) not in (None, value)]
