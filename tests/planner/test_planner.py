"""Plans of small models, against the steps that they predict."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import dialogue, recipe_values, write_jsonl
from tests.forked import run_module
from tuneoff.data.inputs import Inputs, read_inputs
from tuneoff.data.order import epoch_order
from tuneoff.data.tokens import load_tokens
from tuneoff.errors import RecipeError, TuneoffError
from tuneoff.model.device import Precision
from tuneoff.model.engines import choose_engines
from tuneoff.planner import plan as planner
from tuneoff.planner import predictor
from tuneoff.planner.arm import ArmPlanner
from tuneoff.planner.batches import Batches
from tuneoff.planner.fit import Device, parse_device, this_machine
from tuneoff.planner.memory import ArmMemory
from tuneoff.planner.plan import make_plan, plan_recipe, sweep_arms
from tuneoff.planner.predictor import Predictor, Setting
from tuneoff.planner.process import CUDA_CONTEXT_BYTES, CUDA_SLACK, ERROR, OWN_BYTES, SLACK, Held, Process
from tuneoff.planner.refusal import refusals
from tuneoff.planner.speed import Speeds
from tuneoff.planner.training import FakeTraining, PlannedWork
from tuneoff.planner.work import Work
from tuneoff.recipe import Recipe
from tuneoff.recipe.diagnose import DiagnoseSpec
from tuneoff.recipe.evaluation import SearchSpec
from tuneoff.records import Parameters, Plan, PlannedArm, Range
from tuneoff.report.plan import planned_lines
from tuneoff.runner.events import Reporter
from tuneoff.train.steps import Steps

QUIET, CPU = Reporter(io.StringIO()), torch.device("cpu")
LIBRARIES = 300 * 2**20  # bytes that the planning process is taken to hold


def begin(data_folder: Path, kind: str = "seq2seq", layers: int = 2, **training: Any) -> tuple[Recipe, Inputs]:
    values = recipe_values(data_folder, kind, layers)
    values["training"] |= training
    recipe = Recipe.model_validate(values)
    return recipe, read_inputs(recipe, None, QUIET)


def steps_of(recipe: Recipe, inputs: Inputs) -> Steps:
    size = recipe.training.examples_per_step
    return Steps(load_tokens(inputs.tokens["train"]), None, 0, size, 10)


def planned(recipe: Recipe, inputs: Inputs, arm: str) -> PlannedWork:
    engines = choose_engines(inputs.config, recipe.arms, recipe.training)
    return PlannedWork(recipe.arms[arm], recipe.training, engines[arm])


def setting_of(recipe: Recipe, inputs: Inputs) -> Setting:
    steps = steps_of(recipe, inputs)
    batches, process = Batches(steps), Process(CPU, LIBRARIES)
    return Setting(recipe, inputs, steps, batches, CPU, Precision("fp32", ""), process, None, False, QUIET)  # type: ignore[arg-type]


def plan_of(recipe: Recipe, inputs: Inputs, *rest: Any, **options: Any) -> Plan:
    return make_plan(
        recipe, inputs, choose_engines(inputs.config, recipe.arms, recipe.training), QUIET, *rest, **options
    )


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_every_arm_is_predicted_in_full(kind: str, data_folder: Path) -> None:
    recipe, inputs = begin(data_folder, kind)
    plan = plan_of(recipe.model_copy(update={"diagnose": DiagnoseSpec()}), inputs)
    assert plan.diagnosis is not None and 0 < plan.diagnosis.low < plan.diagnosis.value < plan.diagnosis.high
    told = plan.model_copy(update={"diagnosis": Range(value=60.0, low=30.0, high=120.0)})
    assert planned_lines(told)[-1] == "plan diagnosis: 30.0s–2m00s"
    assert planned_lines(plan.model_copy(update={"diagnosis": None})) == planned_lines(plan)[:-1]
    original, full, lora = plan.arms
    assert [arm.not_predicted for arm in plan.arms] == [None] * 3
    assert original.longest is None and original.saved_bytes is None
    assert full.longest is not None and lora.longest is not None and full.typical is not None
    moments = 8 * full.parameters.trainable  # type: ignore[union-attr]
    assert full.longest.components["optimizer"] == pytest.approx(moments, abs=4096)  # and a counter for each weight
    assert lora.longest.components["optimizer"] < full.longest.components["optimizer"] / 10
    assert lora.saved_bytes == 4 * lora.parameters.trainable  # type: ignore[union-attr]
    assert full.typical.components["activations"] <= full.longest.components["activations"]
    assert all(arm.fits[0].fits == "yes" for arm in plan.arms)
    for arm in plan.arms:
        assert arm.seconds is not None and arm.evaluate_peak
        assert arm.seconds["total"].low < arm.seconds["total"].value < arm.seconds["total"].high


@pytest.mark.parametrize("depth", [2, 6])
def test_the_work_of_all_steps_is_the_sum_of_each(depth: int, data_folder: Path) -> None:
    """A few are counted, on few layers, and the rest follows from lengths and depth."""
    recipe, inputs = begin(data_folder)
    inputs.config.num_layers = inputs.config.num_decoder_layers = depth
    setting, work = setting_of(recipe, inputs), planned(recipe, inputs, "full")
    arm = ArmPlanner("full", work, setting)
    training = FakeTraining(work, inputs, setting.steps, Precision("fp32", ""), CPU)
    order = epoch_order(setting.steps.lengths, 8, 0, 0)
    steps = [order[start : start + 8] for start in range(0, len(order), 8)]
    counted = sum((training.work(step) + training.updating for step in steps), Work())
    predicted = arm._work(8)
    assert predicted.parts() == pytest.approx([part * 10 / len(steps) for part in counted.parts()], rel=0.02)


@pytest.mark.parametrize(("kind", "checkpointing"), [("seq2seq", False), ("causal", False), ("causal", True)])
def test_few_layers_tell_the_peak_of_many(kind: str, checkpointing: bool, data_folder: Path) -> None:
    recipe, inputs = begin(data_folder, kind, activation_checkpointing=checkpointing)
    for name in ("num_layers", "num_decoder_layers", "num_hidden_layers"):
        if hasattr(inputs.config, name):
            setattr(inputs.config, name, 17)
    setting = setting_of(recipe, inputs)
    longest = [epoch_order(setting.steps.lengths, 8, 0, 0)[:8]]
    for arm in ("full", "lora") if kind == "causal" else ("lora",):
        predicted = Predictor(planned(recipe, inputs, arm), setting)
        exact = predicted.phases(longest, whole_model=True).values()
        assert predicted.memory(longest).peak == pytest.approx(max(step.peak for step in exact), rel=0.02)


def test_checkpointing_keeps_no_second_copy_of_the_weights(data_folder: Path) -> None:
    """Autocast's cache would: a bf16 copy of each layer's until the forward pass is over."""
    recipe, inputs = begin(data_folder, "causal", activation_checkpointing=True, precision="bf16")
    inputs.config.hidden_size, inputs.config.intermediate_size, inputs.config.head_dim = 256, 512, 64
    steps = steps_of(recipe, inputs)
    activations, weights = {}, {}
    for depth in (4, 8):
        inputs.config.num_hidden_layers = depth
        training = FakeTraining(planned(recipe, inputs, "full"), inputs, steps, Precision("bf16", ""), CPU, split=True)
        step = training.phases([[0], [1]])["forward"]  # of the second, beside the first's gradients
        activations[depth], weights[depth] = step.components["activations"], step.components["weights"]
    kept = step.source_tokens * inputs.config.hidden_size * 4  # what enters a layer
    assert activations[8] - activations[4] <= 4 * 2 * kept < (weights[8] - weights[4]) / 2 / 2


def test_the_micro_batch_is_the_largest_that_fits(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, inputs = begin(data_folder, examples_per_step=32)
    arm = ArmPlanner("full", planned(recipe, inputs, "full"), setting_of(recipe, inputs))
    peaks = {n: arm.memory.process_peak(n) for n in (1, 8, 16, 32)}
    assert peaks[1] < peaks[8] < peaks[16] < peaks[32]
    tensors = arm.memory.longest(8).peak
    assert LIBRARIES + OWN_BYTES + tensors < peaks[8]  # the allocator's slack is not in the peak of tensors
    monkeypatch.setattr(planner.psutil, "Process", _Libraries)
    monkeypatch.setattr(planner, "this_machine", lambda: Device("here", peaks[8]))
    only = recipe.model_copy(update={"arms": {"full": recipe.arms["full"]}})
    plan = plan_of(only, inputs, [Device("larger", 2 * peaks[32])])
    assert plan.micro_batch == 8 and not refusals(plan)
    here, larger = plan.arms[0].fits
    assert [(a.change, a.peak, a.fits) for a in here.advice] == [("training.micro_batch=8", peaks[8], True)]
    assert (here.fits, larger.fits) == ("tight", "yes")
    assert larger.micro_batch == 32 and not larger.advice
    assert "tight: here has" in planned_lines(plan)[0]


def test_what_is_short_by_less_than_the_error_is_tight_and_not_refused(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, inputs = begin(data_folder)
    arm = ArmPlanner("full", planned(recipe, inputs, "full"), setting_of(recipe, inputs))
    least = 10**9
    monkeypatch.setattr(ArmMemory, "training_process_peak", lambda _, size: size * least)
    monkeypatch.setattr(ArmMemory, "generation_process_peak", lambda *_: least // 4)
    for share, fits, micro_batch in ((0.5, "no", None), (1 - ERROR / 2, "tight", 1), (1.0, "tight", 1)):
        fit = arm.fit(Device("small", int(share * least)))
        assert (fit.fits, fit.micro_batch, bool(fit.advice)) == (fits, micro_batch, True)
    assert [arm.fit(Device("larger", size * least)).micro_batch for size in (2, 3, 4, 100)] == [2, 2, 4, 8]


def test_generation_that_is_tight_makes_no_micro_batch_smaller(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, inputs = begin(data_folder)
    arm = ArmPlanner("full", planned(recipe, inputs, "full"), setting_of(recipe, inputs))
    needed = 4 * arm.memory.training_process_peak(8)
    monkeypatch.setattr(ArmMemory, "generation_process_peak", lambda _, size: needed // (1 if size is None else 2))
    for share, fits, size in ((1 - ERROR / 2, "tight", 8), (0.8, "no", None)):
        fit = arm.fit(Device("small", int(share * needed)))
        assert (fit.fits, fit.micro_batch) == (fits, size)
        assert [a.change.partition("=")[0] for a in fit.advice] == ["evaluation.batch_size"]


def test_validation_is_in_the_plan(data_folder: Path, tmp_path: Path) -> None:
    """With long texts to validate on, a large vocabulary and few examples a step, it takes more than training."""
    short = {"dialogue": "#Person1#: Hm. #Person2#: Yes.", "summary": "Hm."}
    words = " ".join(dialogue(n)[0] for n in range(4))
    for split, rows in (("train", [short] * 16), ("validation", [short, {"dialogue": words, "summary": words}] * 4)):
        write_jsonl(tmp_path / f"{split}.jsonl", rows)
    (tmp_path / "test.jsonl").write_text((data_folder / "test.jsonl").read_text())
    values = recipe_values(tmp_path)
    values["model"]["config"]["vocab_size"] = 150_000
    values["training"] |= {"engine": "plain", "examples_per_step": 2}
    recipe = Recipe.model_validate(values)
    inputs = read_inputs(recipe, None, QUIET)
    logits = 4 * 150_000 * 120  # bytes: of the longest target alone, which is cut at 128 tokens
    for arm in plan_of(recipe, inputs).arms[1:]:
        assert arm.longest and arm.validate_peak and arm.process_peak
        assert arm.validate_peak > arm.longest.peak + logits
        assert arm.process_peak > arm.validate_peak
    scored = recipe.evaluation.model_copy(update={"split": "validation"})
    recipe = recipe.model_copy(update={"evaluation": scored})
    assert all(arm.validate_peak is None for arm in plan_of(recipe, read_inputs(recipe, None, QUIET)).arms)


def test_a_large_block_has_no_slack() -> None:
    """glibc gives it back once it is freed."""
    held = Held.of({"weights": 2**20, "activations": 2**26, "process": 0}, large=2**25)
    assert held.fixed == 2**20 + 2**25 and held.reused == 2**25 and held.peak == 2**20 + 2**26
    assert Process(CPU, libraries=7).peak(held) == 7 + OWN_BYTES + held.peak + int(SLACK * 2**25)
    assert Process(torch.device("cuda"), libraries=7).peak(held) == int(7 + (1 + CUDA_SLACK) * held.peak)


def test_generation_that_does_not_fit_has_advice_of_its_own(data_folder: Path) -> None:
    recipe, inputs = begin(data_folder)
    recipe = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"batch_size": 64})})
    memory = ArmPlanner("original", planned(recipe, inputs, "original"), setting_of(recipe, inputs)).memory
    long = sorted((len(ids) for ids in load_tokens(inputs.tokens["test"])["input_ids"]), reverse=True)
    assert len(long) == 5  # so that 4 is the first batch that is smaller
    few, all_of_them = memory.generation_process_peak(2), memory.generation_process_peak(None)
    assert few < memory.generation_process_peak(4) < all_of_them
    arm = ArmPlanner("original", planned(recipe, inputs, "original"), setting_of(recipe, inputs))
    advice = arm._advice(Device("small", few), None)
    assert [(a.change, a.peak, a.fits) for a in advice] == [("evaluation.batch_size=2", few, True)]


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_beams_are_in_the_plan(kind: str, data_folder: Path) -> None:
    """Four beams have four times the keys and values of all tokens, a causal model's prompts among them."""
    recipe, inputs = begin(data_folder, kind)
    rows = load_tokens(inputs.tokens["test"])["input_ids"]
    caches = []
    for beams in (1, 4):
        spec = recipe.evaluation.model_copy(update={"search": SearchSpec(num_beams=beams)})
        of_beams = recipe.model_copy(update={"evaluation": spec})
        memory = ArmPlanner("original", planned(recipe, inputs, "original"), setting_of(of_beams, inputs)).memory
        caches.append(memory.generation_process_peak(4))
    text = 12 if kind == "seq2seq" else 12 + max(map(len, rows))
    width = 32 if kind == "seq2seq" else 16  # heads times head width
    assert caches[1] - caches[0] > 4 * 2 * 2 * text * width * 4 * (4 - 1)  # rows, layers, keys and values, bytes


def test_a_plan_for_a_gpu(data_folder: Path) -> None:
    """In a process of its own, which takes a device that is none for its GPU."""
    status, out, err = run_module("tests.planner.pretended_gpu", data_folder)
    assert not status, err
    large, small = (Plan.model_validate_json(line) for line in out.splitlines())
    for plan, fits in ((large, "yes"), (small, "tight")):
        assert [arm.not_predicted for arm in plan.arms] == [None] * 3
        assert [[fit.fits for fit in arm.fits] for arm in plan.arms] == [[fits, "no"]] * 3
        assert not refusals(plan)
        assert plan.libraries == CUDA_CONTEXT_BYTES
    assert small.micro_batch == 2
    elsewhere = [arm.model_copy(update={"fits": arm.fits[1:]}) for arm in small.arms]
    lines = refusals(small.model_copy(update={"arms": elsewhere}))
    assert any("arm full is predicted to need" in line for line in lines)


class _Libraries:
    def memory_info(self) -> Any:
        return type("Info", (), {"rss": LIBRARIES})


def test_what_fits_nowhere_is_refused_with_advice(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "this_machine", lambda: Device("this machine", 10**6))
    lines = refusals(plan_of(*begin(data_folder)))
    assert any(line.startswith("arm full is predicted to need") for line in lines)
    assert any("training.activation_checkpointing=true" in line for line in lines)
    assert any("LoRA (r=8) in its place" in line for line in lines)


def test_what_needs_values_is_told_with_arithmetic(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, inputs = begin(data_folder)

    def needs_values(*_: Any, **__: Any) -> None:
        raise NotImplementedError("aten::svd needs values\nand so on")

    monkeypatch.setattr(predictor, "FakeTraining", needs_values)
    plan = plan_of(recipe, inputs)
    original, full, lora = plan.arms
    assert original.not_predicted is None
    assert full.not_predicted == "NotImplementedError: aten::svd needs values"
    assert full.parameters and full.longest is None and not full.fits
    assert full.states == {"weights": 4 * full.parameters.total, "gradients": 4 * full.parameters.total,
                           "optimizer": 8 * full.parameters.total}  # fmt: skip
    assert lora.parameters and lora.states["optimizer"] == 8 * lora.parameters.trainable
    assert plan.micro_batch == recipe.training.examples_per_step
    assert not refusals(plan)


def test_a_sweep_makes_an_arm_of_every_value(data_folder: Path) -> None:
    recipe, inputs = begin(data_folder)
    arms = sweep_arms(recipe.arms, "r=2,8")
    assert list(arms) == ["original", "full", "lora-r2", "lora-r8"]
    plan = plan_of(recipe.model_copy(update={"arms": arms}), inputs)
    small, large = plan.arms[2:]
    assert small.parameters and large.parameters
    assert 4 * small.parameters.trainable == large.parameters.trainable
    for text, error in (("r", TuneoffError), ("r=two", RecipeError), ("rr=2", TuneoffError)):
        with pytest.raises(error):
            sweep_arms(recipe.arms, text)


def test_a_rank_is_solved_before_it_is_planned_and_told(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = recipe_values(data_folder)
    del values["arms"]["lora"]["r"]
    values["arms"]["lora"]["params"] = "2k"
    given: list[Recipe] = []
    monkeypatch.setattr(planner, "make_plan", lambda recipe, *_: given.append(recipe))
    recipe = Recipe.model_validate(values)
    plan_recipe(recipe, QUIET)
    assert given[0].arms["lora"].settings["r"] == 3  # 768 parameters each, of q and v of 2 + 2 × 2 attentions
    assert "r" not in recipe.arms["lora"].settings
    arm = PlannedArm(
        arm="lora", method="lora", parameters=Parameters(trainable=2304, total=10_000), rank=3, asked=2000, states={},
        saved_bytes=None, process_peak=2**20,
    )  # fmt: skip
    plan = Plan(device="cpu", precision="fp32", libraries=0, micro_batch=4, steps=10, arms=[arm])
    assert planned_lines(plan) == [
        "plan lora: r = 3, solved for params (2,304 of 2,000 trainable parameters); 1 MiB at most, –"
    ]
    assert sweep_arms({"lora": recipe.arms["lora"]}, "r=2")["lora-r2"].params is None


def test_devices_are_amounts_of_memory() -> None:
    assert parse_device("16GB").capacity == 16 * 10**9
    assert parse_device("1.5 GiB").capacity == 3 * 2**29
    assert this_machine().capacity > 2**28
    for text in ("16", "GB", "0GB", "-1GB", "16TB"):
        with pytest.raises(TuneoffError, match="--device takes an amount of memory"):
            parse_device(text)


def test_calibrated_speeds_are_kept_for_the_model_and_lent_to_others(data_folder: Path) -> None:
    recipe, inputs = begin(data_folder)
    plan = plan_of(recipe, inputs, calibrate=True)
    assert plan.arms[1].speed is not None and "real steps here" in plan.arms[1].speed
    again = plan_of(recipe, inputs)
    assert again.arms[1].speed == plan.arms[1].speed
    found = Speeds(__import__("torch").device("cpu")).find("t5 fp32 all", "another")
    assert found is not None and found.spread >= 0.5
