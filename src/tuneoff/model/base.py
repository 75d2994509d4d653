"""The original model: loaded at a pinned revision, or built of random weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tuneoff.errors import ModelError, first_line, nearest

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

ModelClass = Literal["seq2seq", "causal"]

# Settings that a config.json may hold whatever its architecture.
UNIVERSAL = {"tie_word_embeddings", "decoder_start_token_id", "pad_token_id", "bos_token_id", "eos_token_id"}

# How architectures call the rows of their embeddings; Marian and FSMT have one table for each language.
VOCABULARIES = ("vocab_size", "decoder_vocab_size", "src_vocab_size", "tgt_vocab_size")
ROLES = ("pad_token_id", "eos_token_id", "bos_token_id")  # padding first: some tokenizers pad with another's token


def load_config(name: str, revision: str | None) -> PretrainedConfig:
    """The configuration of a hub name or folder; its `_commit_hash` is the pinned revision. Raises ModelError."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    except Exception as error:  # missing, malformed, remote code: transformers raises several types
        raise _cannot_load(name, error) from error
    config._commit_hash = _commit(name, revision)  # transformers 5.23 itself leaves it out
    # T5 reads `tie_word_embeddings: false` as "do not scale", and ties all the same (transformers 5).
    config.untie_output = getattr(config, "scale_decoder_outputs", True) is False
    if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
        settings = generation_config_of(name, revision)
        config.decoder_start_token_id = settings.decoder_start_token_id if settings is not None else None
    return config


def generation_config_of(name: str, revision: str | None) -> GenerationConfig | None:
    """What a model's generation_config.json says, or its config.json where there is none; None without both."""
    from transformers import AutoConfig, GenerationConfig

    try:
        return GenerationConfig.from_pretrained(name, revision=revision)
    except (OSError, ValueError):  # transformers raises OSError where there is no such file
        pass
    try:
        return GenerationConfig.from_model_config(AutoConfig.from_pretrained(name, revision=revision))
    except (OSError, ValueError):
        return None


def _commit(name: str, revision: str | None) -> str | None:
    """The commit that the config of a hub name was just loaded from; None for a folder."""
    from transformers.utils.hub import cached_file, extract_commit_hash

    if Path(name).is_dir():
        return None
    return extract_commit_hash(cached_file(name, "config.json", revision=revision, local_files_only=True), None)


def make_config(values: dict[str, Any]) -> PretrainedConfig:
    """A configuration from a recipe's `config`, with the field's own names. Raises ModelError."""
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    settings = dict(values)
    model_type = settings.pop("model_type")
    if model_type not in CONFIG_MAPPING:
        raise ModelError(
            f"model.config.model_type: no architecture {model_type!r}; {nearest(str(model_type), CONFIG_MAPPING)}"
        )
    plain = AutoConfig.for_model(model_type)
    known = plain.to_dict().keys() | getattr(plain, "attribute_map", {}).keys() | UNIVERSAL
    for key in settings:
        if key not in known:
            raise ModelError(f"model.config.{key}: {model_type} has no such setting; {nearest(key, known)}")
    try:
        config = AutoConfig.for_model(model_type, **settings)
    except Exception as error:  # each architecture checks its own settings in its own way
        raise ModelError(f"model.config: {first_line(error)}") from error
    config.untie_output = settings.get("tie_word_embeddings") is False  # as in load_config
    return config


def model_class(config: PretrainedConfig) -> ModelClass:
    """Encoder-decoder or decoder-only. Raises ModelError for what generates no text."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING

    if type(config) in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        return "seq2seq"
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return "causal"
    raise ModelError(f"{config.model_type!r} is neither an encoder-decoder nor a decoder-only language model")


def fit_config(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, vocab_given: bool) -> None:
    """Give `config` the tokenizer's special tokens and, unless the recipe gave one, its vocabulary's size.

    The decoder of an encoder-decoder starts with the token of the role that `config` names: padding in T5,
    the end of a text in BART. Raises ModelError where the given vocabulary is too small for the tokenizer.
    """
    for name in (name for name in VOCABULARIES if getattr(config, name, None) is not None):
        if not vocab_given:
            setattr(config, name, len(tokenizer))
        elif getattr(config, name) < len(tokenizer):
            raise ModelError(
                f"model.config.{name} is {getattr(config, name)}, and the tokenizer has {len(tokenizer)} tokens"
            )
    start = _start_role(config) if config.is_encoder_decoder else None
    for role in ROLES:
        setattr(config, role, getattr(tokenizer, role))
    if start is not None:
        token = getattr(tokenizer, start)
        config.decoder_start_token_id = tokenizer.pad_token_id if token is None else token


def _start_role(config: PretrainedConfig) -> str:
    """Which of ROLES the decoder's start token has in `config`; padding where it has none of them."""
    start = getattr(config, "decoder_start_token_id", None)
    return next((role for role in ROLES if start is not None and getattr(config, role, None) == start), ROLES[0])


def build_model(config: PretrainedConfig) -> PreTrainedModel:
    """A model of random weights, always the same ones: they are the model, not the trial's luck."""
    from transformers import set_seed

    untie = bool(config.__dict__.pop("untie_output", False))
    set_seed(0)
    model = _auto(model_class(config)).from_config(config)
    if untie:
        _untie_output(model)
    return model


def load_model(path: str, revision: str | None, kind: ModelClass, dtype: torch.dtype) -> PreTrainedModel:
    """The model of a hub name or folder, from safetensors alone. Raises ModelError."""
    try:
        return _auto(kind).from_pretrained(
            path, revision=revision, dtype=dtype, use_safetensors=True, trust_remote_code=False
        )
    except Exception as error:  # missing, malformed, no safetensors: transformers raises several types
        raise _cannot_load(path, error) from error


def start_token(model: Any) -> int:
    """The token that `generate` begins an encoder-decoder model's text with. Raises ModelError where there is none.

    As transformers has it: the generation config's `decoder_start_token_id`, else its `bos_token_id`.
    """
    settings = model.generation_config
    for token in (settings.decoder_start_token_id, settings.bos_token_id):
        if token is not None:
            return int(token)
    raise ModelError(
        f"{model.config.model_type}: neither decoder_start_token_id nor bos_token_id is set, so that no text can "
        "begin. Set decoder_start_token_id in the model's config.json or generation_config.json"
    )


def _auto(kind: ModelClass) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM if kind == "seq2seq" else AutoModelForCausalLM


def _untie_output(model: PreTrainedModel) -> None:
    """Give the output layer weights of its own, as Flan-T5's has (and as its checkpoint restores them)."""
    import torch

    output = model.get_output_embeddings()
    if output is None or output.weight is not model.get_input_embeddings().weight:
        return
    name = next(
        name
        for name, value in model.named_parameters(remove_duplicate=False)
        if value is output.weight and "lm_head" in name
    )
    output.weight = torch.nn.Parameter(torch.empty_like(output.weight))
    torch.nn.init.normal_(output.weight, std=float(getattr(model.config, "initializer_factor", 1.0)))
    model.all_tied_weights_keys.pop(name, None)


def _cannot_load(name: str, error: Exception) -> ModelError:
    first = first_line(error)
    hint = "" if Path(name).is_dir() else " Is it the name of a model on the hub, or of a folder beside the recipe?"
    return ModelError(f"cannot load the model {name!r}: {first}{hint}")
