from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import MODELS
from tuneoff.errors import ModelError
from tuneoff.measure.parameters import count_parameters
from tuneoff.model.base import build_model, make_config
from tuneoff.model.methods import adapt, check_applies, check_method

LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q", "v"]}


def tiny() -> Any:
    return build_model(make_config({**MODELS["seq2seq"], "vocab_size": 50}))


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("none", {}), ("full", {}), ("lora", LORA), ("lora", {**LORA, "use_dora": True}),
        ("ia3", {}), ("prefix_tuning", {"num_virtual_tokens": 5}), ("vera", {"r": 8}), ("lora", {"r": "4"}),
    ],
)  # fmt: skip
def test_settings_that_peft_s_own_classes_take(method: str, settings: dict[str, Any]) -> None:
    assert check_method("x", method, settings) == []


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("lora", {"lora_alhpa": 8}, "arms.x.lora_alhpa: LoraConfig has no such setting; did you mean 'lora_alpha'?"),
        ("lora", {"r": "many"}, "arms.x.r: input should be a valid integer"),
        ("lora", {"task_type": "CAUSAL_LM"}, "arms.x.task_type: LoraConfig has no such setting"),
        ("loraa", {}, "arms.x.method: no method 'loraa'; did you mean 'lora'?"),
        ("full", {"r": 8}, "arms.x.r: no such setting of method 'full'"),
    ],
)
def test_settings_that_they_do_not(method: str, settings: dict[str, Any], message: str) -> None:
    assert message in str(check_method("x", method, settings)[0])


def test_wrong_settings_are_told_in_the_order_of_the_recipe() -> None:
    names = ["r", "lora_dropout", "bias", "use_dora", "lora_alpha", "use_rslora", "layers_pattern", "fan_in_fan_out"]
    found = check_method("x", "lora", {name: {"no": "value"} for name in names})
    assert [problem.path for problem in found] == [("arms", "x", name) for name in names]


def test_what_learns_is_what_the_method_says() -> None:
    total = count_parameters(tiny()).total
    assert count_parameters(adapt(tiny(), "none", {}, "seq2seq", 1)).trainable == 0
    assert count_parameters(adapt(tiny(), "full", {}, "seq2seq", 1)).trainable == total
    lora = count_parameters(adapt(tiny(), "lora", LORA, "seq2seq", 1))
    # q and v of 2 encoder and 2 × 2 decoder attentions, each A (4 × 32) and B (32 × 4)
    assert lora.trainable == 6 * 2 * (4 * 32 + 32 * 4)
    assert lora.total == total + lora.trainable


@pytest.mark.parametrize(
    ("method", "settings", "found"),
    [
        ("full", {}, 0), ("lora", LORA, 0), ("lora", {**LORA, "init_lora_weights": "pissa"}, 0),
        ("lora", {"target_modules": ["q_proj"]}, 1), ("adaption_prompt", {"adapter_layers": 1, "adapter_len": 2}, 1),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_architecture_is_found_without_weights(
    method: str, settings: dict[str, Any], found: int
) -> None:
    config = make_config({**MODELS["seq2seq"], "vocab_size": 50})
    problems = check_applies("x", method, settings, config)
    assert [p.path[:2] for p in problems] == [("arms", "x")] * found
    assert check_applies("x", "lora", LORA, config) == []


def test_what_peft_refuses_is_one_line() -> None:
    with pytest.raises(ModelError, match="peft cannot apply 'lora' to this model") as caught:
        adapt(tiny(), "lora", {"target_modules": ["nowhere"]}, "seq2seq", 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("asked", "near"), [(["q_prj"], "did you mean 'q_proj'? "), (["zzz"], ""), (".*zzz", "")])
def test_target_modules_that_a_model_lacks_are_told_with_those_that_it_has(asked: Any, near: str) -> None:
    config = make_config({**MODELS["causal"], "vocab_size": 50})
    (problem,) = check_applies("x", "lora", {**LORA, "target_modules": asked}, config)
    assert problem.path == ("arms", "x", "target_modules")
    shown = repr(asked) if isinstance(asked, str) else repr(asked[0])
    layers = "down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj"
    assert problem.message == f"this model has no module {shown}; {near}Its linear layers are called {layers}"
