from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from tests.conftest import MODELS, dialogue
from tuneoff.decode.generate import Generated, generate
from tuneoff.decode.search import left_off, searched_by, steering
from tuneoff.model.base import ModelClass, build_model, fit_config, make_config
from tuneoff.model.engines import engine_for
from tuneoff.model.tokenizer import train_tokenizer
from tuneoff.recipe.evaluation import SearchSpec


def setup(kind: ModelClass) -> tuple[Any, Any, list[list[int]]]:
    texts = [dialogue(n)[0] for n in range(9)]
    tokenizer = train_tokenizer(texts, 400, kind)
    config = make_config(MODELS[kind])
    fit_config(config, tokenizer, vocab_given=False)
    model = build_model(config)
    return model, tokenizer, tokenizer(texts)["input_ids"]


def run(kind: ModelClass, batch_size: int, num_beams: int = 1, engine: str = "plain", **search: int) -> list[Generated]:
    model, tokenizer, inputs = setup(kind)
    seen: list[tuple[int, int]] = []
    outputs = generate(
        engine_for(engine, model, bf16=False), tokenizer, inputs, max_new_tokens=10,
        search=SearchSpec(num_beams=num_beams, **search), batch_size=batch_size,
        report=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen[-1] == (9, 9)
    return outputs


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
@pytest.mark.parametrize("beams", [1, 3])
def test_batches_write_what_one_at_a_time_writes_in_the_order_given(kind: ModelClass, beams: int) -> None:
    assert run(kind, 4, beams) == run(kind, 1, beams)


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("size", [1, 2])
def test_padding_is_no_part_of_an_ngram(kind: ModelClass, beams: int, size: int) -> None:
    """The tokenizer's padding token is one that the model would write first, which padding must not forbid."""
    model, tokenizer, inputs = setup(kind)
    first = written_ids(model, tokenizer, inputs[0], kind)[0]
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(first)
    inputs = [[token for token in ids if token != first][: 5 + 9 * n] for n, ids in enumerate(inputs)]
    texts = [
        generate(
            engine_for("plain", model, bf16=False), tokenizer, inputs, max_new_tokens=10,
            search=SearchSpec(num_beams=beams, no_repeat_ngram_size=size), batch_size=batch_size,
            report=lambda done, total: None,
        )
        for batch_size in (4, 1)
    ]  # fmt: skip
    assert texts[0] == texts[1]


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_it_is_plain_greedy_search(kind: ModelClass) -> None:
    model, tokenizer, inputs = setup(kind)
    ids = torch.tensor([inputs[3]])
    written = ids if kind == "causal" else torch.tensor([[tokenizer.pad_token_id]])
    start = written.shape[1]
    for _ in range(10):
        with torch.no_grad():
            given = {"input_ids": written} if kind == "causal" else {"input_ids": ids, "decoder_input_ids": written}
            best = model.eval()(**given).logits[:, -1].argmax(-1)
        written = torch.cat([written, best[:, None]], dim=1)
        if int(best) == tokenizer.eos_token_id:
            break
    expected = tokenizer.decode(written[0, start:], skip_special_tokens=True).strip()
    assert run(kind, 4)[3].text == expected


@pytest.mark.parametrize("beams", [1, 3])
def test_the_t5_engine_writes_the_same(beams: int) -> None:
    assert run("seq2seq", 4, beams, "t5") == run("seq2seq", 4, beams, "plain")


@pytest.mark.parametrize(("kind", "engine"), [("seq2seq", "t5"), ("causal", "decoder")])
@pytest.mark.parametrize("beams", [1, 3])
def test_constraints_reach_every_engine(kind: ModelClass, engine: str, beams: int) -> None:
    search = {"num_beams": beams, "no_repeat_ngram_size": 1, "min_new_tokens": 6}
    plain = run(kind, 4, engine="plain", **search)
    assert run(kind, 4, engine=engine, **search) == plain
    assert all(output.tokens >= 6 for output in plain)
    assert plain != run(kind, 4, beams)


def test_an_output_that_ends_is_not_truncated() -> None:
    model, tokenizer, inputs = setup("seq2seq")
    with torch.no_grad():  # a decoder whose every state scores EOS highest
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    outputs = generate(
        engine_for("plain", model, bf16=False), tokenizer, inputs, max_new_tokens=4, search=SearchSpec(), batch_size=4,
        report=lambda done, total: None,
    )  # fmt: skip
    assert all(o.truncated and o.text == "" for o in outputs)  # all scores equal: the first token, padding, for ever
    model.generation_config.eos_token_id = 0
    outputs = generate(
        engine_for("plain", model, bf16=False), tokenizer, inputs, max_new_tokens=4, search=SearchSpec(), batch_size=4,
        report=lambda done, total: None,
    )  # fmt: skip
    assert not any(o.truncated for o in outputs)


def written_with(kind: ModelClass, engine: str, beams: int, **own: Any) -> list[Generated]:
    """What a model writes whose generation config has settings of its own."""
    model, tokenizer, inputs = setup(kind)
    for name, value in own.items():
        setattr(model.generation_config, name, value)
    return generate(
        engine_for(engine, model, bf16=False), tokenizer, inputs, max_new_tokens=10,
        search=SearchSpec(num_beams=beams), batch_size=4, report=lambda done, total: None,
    )  # fmt: skip


BART = {"min_length": 9, "no_repeat_ngram_size": 2, "repetition_penalty": 5.0, "max_length": 3}


@pytest.mark.parametrize(("kind", "engine"), [("seq2seq", "plain"), ("seq2seq", "t5"), ("causal", "plain")])
@pytest.mark.parametrize("beams", [1, 3])
def test_settings_that_the_recipe_does_not_ask_for_do_nothing(kind: ModelClass, engine: str, beams: int) -> None:
    more = {**BART, "length_penalty": 3.0, "early_stopping": True, "exponential_decay_length_penalty": (2, 9.0)}
    assert written_with(kind, engine, beams, **more) == run(kind, 4, beams, engine)


def test_a_signature_says_how_texts_were_searched_for() -> None:
    assert searched_by(SearchSpec()) == "greedy"
    assert searched_by(SearchSpec(num_beams=4, no_repeat_ngram_size=3)) == "beam4+no_repeat_ngram_size=3"
    assert searched_by(SearchSpec(min_new_tokens=20)) == "greedy+min_new_tokens=20"


def test_what_is_left_off_is_told() -> None:
    config = GenerationConfig(min_length=56, no_repeat_ngram_size=0, length_penalty=2.0, forced_bos_token_id=0)
    assert left_off(config, SearchSpec()) == ["min_length 56"]
    assert left_off(config, SearchSpec(num_beams=4)) == ["min_length 56", "length_penalty 2.0"]
    assert steering(config) == ["forced_bos_token_id"]


@pytest.mark.parametrize(("kind", "engine"), [("seq2seq", "plain"), ("seq2seq", "t5"), ("causal", "plain")])
@pytest.mark.parametrize("place", ["generation_config", "config", "list"])
def test_a_text_ends_where_either_the_model_or_its_tokenizer_says(kind: ModelClass, engine: str, place: str) -> None:
    """A fine-tuned model writes the end that its targets had, which is the tokenizer's."""
    model, tokenizer, inputs = setup(kind)
    first = run(kind, 4)[0]
    assert first.truncated
    ids = written_ids(model, tokenizer, inputs[0], kind)
    end = ids[2]  # let the third token that it writes be an end
    own = 399 if ids[2] != 399 else 398
    if place == "config":
        model.generation_config.eos_token_id, model.config.eos_token_id = None, end
    else:
        model.generation_config.eos_token_id = own if place == "generation_config" else [own, 397]
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    output = generate(
        engine_for(engine, model, bf16=False), tokenizer, inputs[:1], max_new_tokens=10, search=SearchSpec(),
        batch_size=4, report=lambda done, total: None,
    )[0]  # fmt: skip
    assert not output.truncated and output.tokens == ids.index(end) + 1


def written_ids(model: Any, tokenizer: Any, ids: list[int], kind: ModelClass) -> list[int]:
    """The tokens of a greedy search."""
    written = model.eval().generate(
        torch.tensor([ids]), max_new_tokens=10, do_sample=False, pad_token_id=tokenizer.pad_token_id
    )
    return written[0, len(ids) if kind == "causal" else 1 :].tolist()
