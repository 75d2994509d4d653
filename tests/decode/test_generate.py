from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conftest import MODELS, dialogue
from tuneoff.decode.generate import Generated, generate
from tuneoff.model.base import ModelClass, build_model, fit_config, make_config
from tuneoff.model.engines import engine_for
from tuneoff.model.tokenizer import train_tokenizer


def setup(kind: ModelClass) -> tuple[Any, Any, list[list[int]]]:
    texts = [dialogue(n)[0] for n in range(9)]
    tokenizer = train_tokenizer(texts, 400, kind)
    config = make_config(MODELS[kind])
    fit_config(config, tokenizer, vocab_given=False)
    model = build_model(config)
    return model, tokenizer, tokenizer(texts)["input_ids"]


def run(kind: ModelClass, batch_size: int, beams: int = 1, engine: str = "plain") -> list[Generated]:
    model, tokenizer, inputs = setup(kind)
    seen: list[tuple[int, int]] = []
    outputs = generate(
        engine_for(engine, model, bf16=False), tokenizer, inputs, max_new_tokens=10, num_beams=beams,
        batch_size=batch_size,
        report=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen[-1] == (9, 9)
    return outputs


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
@pytest.mark.parametrize("beams", [1, 3])
def test_batches_write_what_one_at_a_time_writes_in_the_order_given(kind: ModelClass, beams: int) -> None:
    assert run(kind, 4, beams) == run(kind, 1, beams)


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


def test_an_output_that_ends_is_not_truncated() -> None:
    model, tokenizer, inputs = setup("seq2seq")
    with torch.no_grad():  # a decoder whose every state scores EOS highest
        model.lm_head.weight = torch.nn.Parameter(torch.zeros_like(model.lm_head.weight))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    outputs = generate(
        engine_for("plain", model, bf16=False), tokenizer, inputs, max_new_tokens=4, num_beams=1, batch_size=4,
        report=lambda done, total: None,
    )  # fmt: skip
    assert all(o.truncated and o.text == "" for o in outputs)  # all scores equal: the first token, padding, for ever
    model.generation_config.eos_token_id = 0
    outputs = generate(
        engine_for("plain", model, bf16=False), tokenizer, inputs, max_new_tokens=4, num_beams=1, batch_size=4,
        report=lambda done, total: None,
    )  # fmt: skip
    assert not any(o.truncated for o in outputs)
