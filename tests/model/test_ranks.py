"""The rank that is solved for `params` is the one that a count of every rank finds."""

from __future__ import annotations

import copy
import random
from functools import cache
from typing import Any

import pytest
import torch
from transformers import PretrainedConfig

from tests.conftest import MODELS, TARGETS
from tuneoff.errors import ModelError
from tuneoff.measure.parameters import count_parameters
from tuneoff.model.base import build_model, make_config, model_class
from tuneoff.model.methods import STEPS, adapt, check_params
from tuneoff.model.ranks import _nearest_rank, solve_rank


@cache
def config_of(kind: str) -> PretrainedConfig:
    return make_config({**MODELS[kind], "vocab_size": 100})


def counted(kind: str, method: str, settings: dict[str, Any], rank: int) -> int:
    with torch.device("meta"):
        config = copy.deepcopy(config_of(kind))
        model = adapt(build_model(config), method, {**settings, "r": rank}, model_class(config), STEPS)
    return count_parameters(model).trainable


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("lora", {}), ("lora", {"target_modules": "all-linear"}), ("lora", {"use_dora": True}),
        ("lora", {"bias": "all"}), ("loha", {}), ("lokr", {}),
    ],
)  # fmt: skip
def test_it_is_the_nearest_of_all_ranks(kind: str, method: str, more: dict[str, Any]) -> None:
    settings = {"target_modules": TARGETS[kind], **more}
    counts = {rank: counted(kind, method, settings, rank) for rank in range(1, 11)}
    for asked in random.Random(0).sample(range(counts[1], counts[9]), 4):
        found = solve_rank(config_of(kind), method, settings, asked)
        assert abs(counts[found] - asked) == min(abs(count - asked) for count in counts.values())


def test_half_way_between_two_ranks_it_is_the_smaller() -> None:
    settings = {"target_modules": ["q", "v"]}
    counts = [counted("seq2seq", "lora", settings, rank) for rank in (3, 4)]
    assert solve_rank(config_of("seq2seq"), "lora", settings, sum(counts) // 2) == 3


def test_a_start_that_needs_values_has_no_bearing() -> None:
    settings = {"target_modules": ["q", "v"], "init_lora_weights": "pissa"}
    asked = counted("seq2seq", "lora", {"target_modules": ["q", "v"]}, 5)
    assert solve_rank(config_of("seq2seq"), "lora", settings, asked) == 5


@pytest.mark.parametrize(
    ("method", "params", "message"),
    [
        ("lora", 5, "5 trainable parameters are too few: already r = 1 has 768"),
        ("lora", 10**9, "1,000,000,000 trainable parameters are too many: the whole model has"),
        ("adalora", 10_000, "do not grow with `r`"),
    ],
)
def test_what_no_rank_has_is_refused(method: str, params: int, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        solve_rank(config_of("seq2seq"), method, {"target_modules": ["q", "v"]}, params)


def test_a_method_without_a_rank_is_named() -> None:
    for method in ("full", "ia3", "prefix_tuning"):
        (problem,) = check_params("x", method)
        assert str(problem) == f"arms.x.params: method {method!r} has no rank `r` that could be solved for it"
    assert check_params("x", "lora") == check_params("x", "no such method") == []


@pytest.mark.parametrize("seed", range(10))
def test_a_count_that_is_no_line_is_bisected(seed: int) -> None:
    rng = random.Random(seed)
    counts = [0]
    for _ in range(13_000):
        counts.append(counts[-1] + rng.randint(1, 50))
    asked = rng.randint(counts[1], counts[250])
    asked_for: list[int] = []
    rank = _nearest_rank(lambda r: (asked_for.append(r), counts[r])[1], counts[1], asked)
    assert abs(counts[rank] - asked) == min(abs(count - asked) for count in counts[1:])
    assert len(asked_for) < 25
