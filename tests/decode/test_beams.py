"""The searches of the fast engines against transformers' `generate`, with beams and constraints."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from transformers import NoRepeatNGramLogitsProcessor

from tests.model.engines import families, test_t5
from tuneoff.decode.beams import beam_search
from tuneoff.model.engines.constraints import Constraints
from tuneoff.model.engines.decoder import DecoderEngine
from tuneoff.model.engines.t5 import T5Engine

TOKENS = 16
LENGTHS = [1, 12, 3, 7, 15, 2, 9, 4, 11, 5, 13]  # more prompts than are read together
SETTINGS: dict[str, dict[str, Any]] = {
    "three beams": {"num_beams": 3},
    "long texts": {"num_beams": 4, "length_penalty": 2.0},
    "short texts": {"num_beams": 4, "length_penalty": -1.0},
    "beams that repeat nothing": {"num_beams": 2, "no_repeat_ngram_size": 2, "min_new_tokens": 7},
    "greedy": {"no_repeat_ngram_size": 3, "min_new_tokens": 9},
    "no token twice": {"no_repeat_ngram_size": 1},
}


def built(kind: str) -> tuple[Any, Any, int, list[int] | None]:
    """A random model, its engine's search, its vocabulary, and what its texts start with."""
    if kind == "t5":
        model = test_t5.build(5, decoder_layers=2, pad_token_id=0).eval()
        vocabulary = test_t5.VOCABULARY
    else:
        model, vocabulary = families.build(kind, 31).eval(), families.VOCABULARY
    torch.manual_seed(32)
    # Few tokens are likely, so that texts repeat themselves and meet their ends. Gemma's cap makes large logits alike.
    scale = 0.1 if kind == "gemma2" else 1.0
    weight = torch.randn(vocabulary, 48) * torch.linspace(2, 0.1, vocabulary)[:, None] * scale
    model.lm_head.weight = torch.nn.Parameter(weight)
    engine = (T5Engine if kind == "t5" else DecoderEngine)(model, bf16=False)
    return model, engine.search(), vocabulary, [0] if kind == "t5" else None


def transformers_texts(model: Any, prompts: list[list[int]], ends: list[int], settings: dict[str, Any]) -> list[Any]:
    """One by one, so that nothing is padded."""
    texts = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        written = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False,
            eos_token_id=ends, pad_token_id=0, **settings,
        )[0, 1 if model.config.is_encoder_decoder else len(prompt) :].tolist()  # fmt: skip
        texts.append(next((written[: n + 1] for n, token in enumerate(written) if token in ends), written))
    return texts


@cache
def reference(kind: str, name: str) -> tuple[list[list[int]], list[int], list[list[int]]]:
    """Prompts, tokens that end a text, and what transformers writes, which does not depend on the kernels."""
    model, _, vocabulary, _ = built(kind)
    settings = SETTINGS[name]
    torch.manual_seed(33)
    prompts = [torch.randint(3, vocabulary, (length,)).tolist() for length in LENGTHS]
    endless = transformers_texts(model, prompts, [-1], settings)
    ends = [endless[0][4], endless[2][8], endless[4][12]]  # that some texts meet early, some late and some never
    expected = transformers_texts(model, prompts, ends, settings)
    assert len({len(text) for text in expected}) > 1 or settings.get("length_penalty", 1) > 1
    greedy = {**settings, "num_beams": 1, "length_penalty": 1.0} if "num_beams" in settings else {}
    assert expected != transformers_texts(model, prompts, ends, greedy)  # the settings matter
    return prompts, ends, expected


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("kind", ["t5", "llama", "gemma2"])
def test_they_write_what_transformers_writes(way: str, kind: str, name: str) -> None:
    """With the kernels and without, of more prompts than a search reads together."""
    prompts, ends, expected = reference(kind, name)
    settings, (_, search, _, start) = SETTINGS[name], built(kind)
    constraints = Constraints(tuple(ends), settings.get("min_new_tokens", 0), settings.get("no_repeat_ngram_size", 0))
    beams = settings.get("num_beams", 1)
    if beams == 1:
        found = dict(search.write(prompts, TOKENS, constraints, 3))
        ours = [found[n] for n in range(len(prompts))]
    else:
        ours = beam_search(
            search, prompts, start=start, max_new_tokens=TOKENS, num_beams=beams, constraints=constraints,
            length_penalty=settings.get("length_penalty", 1.0), device=torch.device("cpu"),
        )  # fmt: skip
    assert ours == expected


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_no_ngram_twice_is_transformers_rule(size: int) -> None:
    torch.manual_seed(size)
    for _ in range(50):
        text = torch.randint(0, 4, (int(torch.randint(1, 30, ())),))
        theirs = NoRepeatNGramLogitsProcessor(size)(text[None], torch.zeros(1, 6))
        ours = Constraints((), no_repeat_ngram_size=size).apply(torch.zeros(1, 6), [text.tolist()], [0])
        assert torch.equal(ours, theirs)
