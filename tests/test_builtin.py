from __future__ import annotations

from pathlib import Path

import pytest

from tuneoff.builtin import located
from tuneoff.errors import TuneoffError
from tuneoff.model.base import load_config, load_model, model_class
from tuneoff.model.tokenizer import load_tokenizer

NANO = "builtin:dialog-t5-nano"


def test_other_names_are_left_alone() -> None:
    assert located("google/flan-t5-base") == "google/flan-t5-base"
    assert located("./here") == "./here"


def test_what_does_not_ship_is_told() -> None:
    with pytest.raises(TuneoffError, match="nothing called 'builtin:dialog-t5' ships with tuneoff; did you mean"):
        located("builtin:dialog-t5")


def test_the_model_that_ships() -> None:
    import torch

    path = located(NANO)
    assert sum(file.stat().st_size for file in Path(path).iterdir()) <= 16 * 2**20
    config = load_config(path, None)
    assert (model_class(config), config.feed_forward_proj, config.dropout_rate > 0) == ("seq2seq", "gated-gelu", True)
    model = load_model(path, None, "seq2seq", torch.bfloat16)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model.lm_head.weight is not model.shared.weight  # T5 v1.1's layout
    tokenizer = load_tokenizer(path, None)
    assert 4000 <= len(tokenizer) <= 8200
    assert len(tokenizer) == config.vocab_size
    assert tokenizer.convert_tokens_to_ids("<extra_id_99>") != tokenizer.unk_token_id
    text = "#Person1#: The café opens at 9:15, isn't that late? #Person2#: No."
    ids = tokenizer(text).input_ids
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_it_reports_what_it_is_shown() -> None:
    """The least that pretraining must have given it: to find what is said and tell it, of any dialogue."""
    import torch

    model = load_model(located(NANO), None, "seq2seq", torch.float32)
    tokenizer = load_tokenizer(located(NANO), None)
    for dialogue, report in (
        ("#Person1#: Good morning. I need a taxi to the museum. #Person2#: Of course.", "a taxi to the museum"),
        ("#Person1#: Hello. I want to book a table for six people. #Person2#: Sorry?", "book a table for six people"),
    ):
        ids = tokenizer(f"report: {dialogue}", return_tensors="pt")
        assert report in tokenizer.decode(model.generate(**ids, max_new_tokens=40)[0])
