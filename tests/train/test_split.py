"""No split of a step changes its loss or gradient, and both are those of a plain transformers loop.

Random lengths (targets longer than sources among them, and padded sources as wide as padded targets), for families and
methods that collate, shift or compute in ways of their own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import dialogue
from tuneoff.folder import TrialFolder
from tuneoff.measure.clock import Clock
from tuneoff.model.base import build_model, fit_config, make_config, model_class
from tuneoff.model.engines import ENGINES, engine_for
from tuneoff.model.methods import adapt, method_loss
from tuneoff.model.tokenizer import train_tokenizer
from tuneoff.recipe.training import TrainingSpec
from tuneoff.train.loop import Training
from tuneoff.train.optimizer import gradient_norm
from tuneoff.train.steps import Steps

BART = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 128,
    "dropout": 0.0,
}  # fmt: skip
T5 = {
    "model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0,
}  # fmt: skip
FAMILIES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {  # config, attention modules, feed-forward modules
    "t5 gated": ({**T5, "feed_forward_proj": "gated-gelu"}, ["q", "v"], ["wo"]),
    "t5 relu": (T5, ["q", "v"], ["wo"]),
    "bart": ({"model_type": "bart", **BART}, ["q_proj", "v_proj"], ["fc2"]),
    "pegasus": ({"model_type": "pegasus", **BART}, ["q_proj", "v_proj"], ["fc2"]),
    "llama": (
        {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2},
        ["q_proj", "v_proj"], ["down_proj"],
    ),
    "gpt2": (
        {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "attn_pdrop": 0.0,
         "embd_pdrop": 0.0, "resid_pdrop": 0.0},
        ["c_attn"], ["c_fc"],
    ),
}  # fmt: skip
METHODS = ("full", "lora", "dora", "ia3", "adalora")
EXAMPLES = 8
LENGTHS = st.lists(st.tuples(st.integers(2, 40), st.integers(1, 40)), min_size=EXAMPLES, max_size=EXAMPLES)


def settings_of(family: str, method: str) -> tuple[str, dict[str, Any]]:
    """peft's name and settings. IA3 takes no Conv1D but by name, and is given what it multiplies."""
    _, attention, feed_forward = FAMILIES[family]
    if method == "full":
        return "full", {}
    if method == "ia3":
        return "ia3", {"target_modules": [*attention, *feed_forward], "feedforward_modules": feed_forward}
    if method == "adalora":
        return "adalora", {"init_r": 4, "target_r": 2, "target_modules": attention, "orth_reg_weight": 0.5}
    return "lora", {"r": 4, "lora_dropout": 0.0, "target_modules": attention, "use_dora": method == "dora"}


@pytest.fixture(scope="module", params=[(f, m) for f in FAMILIES for m in METHODS], ids=lambda p: f"{p[0]}-{p[1]}")
def learner(request: pytest.FixtureRequest) -> tuple[Any, Any, str]:
    family, method = request.param
    config = make_config(FAMILIES[family][0])
    kind = model_class(config)
    tokenizer = train_tokenizer([text for n in range(20) for text in dialogue(n)], 400, kind)
    fit_config(config, tokenizer, vocab_given=False)
    name, options = settings_of(family, method)
    torch.manual_seed(3)
    model = adapt(build_model(config), name, options, kind, steps=1000)
    for weight in model.parameters():
        if weight.requires_grad:  # an adapter that begins as nothing has no gradient to speak of
            weight.data += 0.02 * torch.randn_like(weight)
    return model, tokenizer, kind


def rows_of(lengths: list[tuple[int, int]], kind: str, seed: int) -> Dataset:
    torch.manual_seed(seed)
    rows = []
    for source, target in lengths:
        prompt, labels = torch.randint(3, 400, (source,)).tolist(), [*torch.randint(3, 400, (target,)).tolist(), 1]
        if kind == "causal":
            rows.append({"input_ids": prompt + labels, "labels": [-100] * source + labels})
        else:
            rows.append({"input_ids": prompt, "labels": labels})
    return Dataset.from_list(rows)


def first_step(model: Any, tokenizer: Any, rows: Dataset, micro_batch: int) -> tuple[float, float, dict[str, Any]]:
    engine = next(name for name, engine in ENGINES.items() if engine.suits(model) is None)
    spec = TrainingSpec(examples_per_step=EXAMPLES, micro_batch=micro_batch, precision="fp32")
    with tempfile.TemporaryDirectory() as folder:
        training = Training(
            engine_for(engine, model, bf16=False), tokenizer, Steps(rows, None, 0, EXAMPLES, 1), spec, 1e-3,
            TrialFolder(Path(folder)), Clock(),
        )  # fmt: skip
    examples = training.steps.examples(0)
    assert sorted(examples) == list(range(EXAMPLES))
    parts = training.split(examples)
    assert sorted(i for part in parts for i in part) == list(range(EXAMPLES))
    loss = training.backward([training.batch(part) for part in parts], training.tokens(examples))
    norm = gradient_norm(training.optimizer)
    return loss, norm, taken(model)


def taken(model: Any) -> dict[str, Any]:
    gradients = {n: w.grad.clone() for n, w in model.named_parameters() if w.requires_grad and w.grad is not None}
    model.zero_grad()
    return gradients


def plain_step(model: Any, rows: Dataset, kind: str) -> tuple[float, dict[str, Any]]:
    """Every example by itself through transformers' own model and loss, without padding: the mean over all targets."""
    count = sum(label != -100 for row in rows for label in row["labels"])
    total = 0.0
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
        if kind == "seq2seq":
            start = model.generation_config.decoder_start_token_id
            given["decoder_input_ids"] = torch.tensor([[start, *row["labels"][:-1]]])
        loss = model(**given).loss
        own = method_loss(model)  # peft has added it to the loss of labels, once an example
        loss = (loss if own is None else loss - own) * int((labels != -100).sum()) / count
        loss.backward()
        total += float(loss.detach())
    own = method_loss(model)
    if own is not None:
        own.backward()
    return total, taken(model)


@given(lengths=LENGTHS, seed=st.integers(0, 99))
@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_loss_and_gradient_are_a_plain_loop_s_however_a_step_is_split(
    learner: tuple[Any, Any, str], lengths: list[tuple[int, int]], seed: int
) -> None:
    model, tokenizer, kind = learner
    rows = rows_of(lengths, kind, seed)
    expected, theirs = plain_step(model, rows, kind)
    whole = sum(float(g.norm()) ** 2 for g in theirs.values()) ** 0.5
    for micro_batch in (1, 2, 4, 8):
        loss, norm, ours = first_step(model, tokenizer, rows, micro_batch)
        assert loss == pytest.approx(expected, rel=1e-5)
        assert norm == pytest.approx(whole, rel=1e-5)
        assert ours.keys() == theirs.keys()
        apart = sum(float((ours[name] - theirs[name]).norm()) ** 2 for name in theirs) ** 0.5
        assert apart <= 1e-5 * whole


def test_a_padded_source_as_wide_as_the_padded_target_loses_no_target() -> None:
    """Equal shapes do not make an encoder-decoder a decoder-only model: 208 target tokens stay 208."""
    lengths = [(60, 59), (20, 57), (18, 49), (16, 39)]  # and an EOS
    rows = rows_of(lengths, "seq2seq", 0)
    config = make_config(FAMILIES["t5 relu"][0])
    tokenizer = train_tokenizer(["a text"], 300, "seq2seq")
    fit_config(config, tokenizer, vocab_given=False)
    spec = TrainingSpec(examples_per_step=4, micro_batch=1, precision="fp32")
    with tempfile.TemporaryDirectory() as folder:
        training = Training(
            engine_for("plain", build_model(config), bf16=False), tokenizer, Steps(rows, None, 0, 4, 1), spec, 1e-3,
            TrialFolder(Path(folder)), Clock(),
        )  # fmt: skip
    parts = [training.batch(part) for part in training.split(training.steps.examples(0))]
    assert len(parts) > 1
    assert sum(int((part["labels"] != -100).sum()) for part in parts) == 208 == training.tokens(range(4))
