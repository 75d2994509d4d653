from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from transformers import GenerationConfig

from tests.conftest import MODELS
from tuneoff.errors import ModelError
from tuneoff.measure.parameters import count_parameters
from tuneoff.model.base import (
    VOCABULARIES,
    build_model,
    fit_config,
    load_config,
    load_model,
    make_config,
    model_class,
)
from tuneoff.model.methods import adapt
from tuneoff.model.tokenizer import train_tokenizer
from tuneoff.recipe import load_recipe

FLAN_T5_BASE = {
    "model_type": "t5", "vocab_size": 32128, "d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12,
    "num_decoder_layers": 12, "num_heads": 12, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
}  # fmt: skip


def test_the_first_case_has_the_course_s_parameter_counts() -> None:
    """247,577,856 weights, of which LoRA on q and v trains 3,538,944 more; on the meta device, without memory."""
    lora = load_recipe("dialogsum-flan-t5-base").recipe.arms["lora"]
    with torch.device("meta"):
        model = build_model(make_config(FLAN_T5_BASE))
        assert count_parameters(model).total == 247_577_856
        adapted = adapt(model, lora.method, lora.settings, "seq2seq", steps=1)
    counts = count_parameters(adapted)
    assert (counts.trainable, counts.total) == (3_538_944, 251_116_800)


def test_a_hub_name_is_pinned_to_the_commit_it_was_loaded_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    stored = tmp_path / "models--org--tiny"
    (stored / "refs").mkdir(parents=True)
    (stored / "refs" / "main").write_text(commit)
    make_config(small_untied()).save_pretrained(stored / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert load_config("org/tiny", None)._commit_hash == commit
    assert load_config(str(stored / "snapshots" / commit), None)._commit_hash is None


def small_untied() -> dict[str, object]:
    return {**MODELS["seq2seq"], "vocab_size": 50, "tie_word_embeddings": False, "decoder_start_token_id": 0}


def test_an_untied_t5_stays_untied_and_the_same_function_through_saving(tmp_path: Path) -> None:
    model = build_model(make_config(small_untied())).eval()
    assert model.lm_head.weight is not model.shared.weight
    assert model.encoder.embed_tokens.weight is model.shared.weight
    inputs = {"input_ids": torch.arange(3, 15).reshape(2, 6), "decoder_input_ids": torch.arange(8).reshape(2, 4)}
    model.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), None, "seq2seq", torch.float32).eval()
    assert torch.equal(model(**inputs).logits, loaded(**inputs).logits)
    assert count_parameters(loaded) == count_parameters(model)


def test_random_weights_are_the_same_each_time() -> None:
    first, second = (build_model(make_config({**MODELS["causal"], "vocab_size": 50})) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize(
    ("model_type", "role"),
    [("t5", "pad_token_id"), ("marian", "pad_token_id"), ("bart", "eos_token_id"), ("fsmt", "eos_token_id")],
)
def test_a_fitted_config_starts_the_decoder_with_the_architecture_s_own_kind_of_token(
    model_type: str, role: str
) -> None:
    tokenizer = train_tokenizer(["some words of a text"] * 3, 300, "seq2seq")
    config = make_config({"model_type": model_type})
    for _ in range(2):  # a run that is resumed fits the config once more
        fit_config(config, tokenizer, vocab_given=False)
        assert config.decoder_start_token_id == getattr(tokenizer, role)
    sizes = {getattr(config, name) for name in VOCABULARIES if hasattr(config, name)}
    assert sizes == {len(tokenizer)}


def test_a_start_token_that_generation_config_alone_names_is_read(tmp_path: Path) -> None:
    config = make_config(small_untied())
    config.decoder_start_token_id = None
    config.save_pretrained(tmp_path)
    assert load_config(str(tmp_path), None).decoder_start_token_id is None
    GenerationConfig(decoder_start_token_id=7).save_pretrained(tmp_path)
    assert load_config(str(tmp_path), None).decoder_start_token_id == 7


def test_classes_of_models() -> None:
    assert model_class(make_config(MODELS["seq2seq"])) == "seq2seq"
    assert model_class(make_config(MODELS["causal"])) == "causal"
    with pytest.raises(ModelError, match="neither an encoder-decoder nor"):
        model_class(make_config({"model_type": "vit"}))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "t6"}, "no architecture 't6'"),
        ({"model_type": "t5", "d_modle": 3}, "d_modle: t5 has no such setting; did you mean 'd_model'"),
        ({"model_type": "t5", "feed_forward_proj": "a-b-c"}, "model.config: "),
    ],
)
def test_a_config_that_cannot_be_built(config: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make_config(config)


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for call in (
        lambda: load_config("some/model", None),
        lambda: load_model("some/model", None, "causal", torch.float32),
    ):
        with pytest.raises(ModelError, match="cannot load the model 'some/model'") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    model = build_model(make_config({**MODELS["causal"], "vocab_size": 50}))
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load_model(str(tmp_path), None, "causal", torch.float32)
