"""The loop against a plain one in torch, and against itself interrupted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import accelerate.tracking
import pytest
import torch
from transformers import DataCollatorForSeq2Seq

from tests.conftest import MODELS, TARGETS
from tuneoff.data.examples import Example, Examples
from tuneoff.data.order import epoch_order
from tuneoff.data.prompt import Prompt
from tuneoff.data.rendering import TemplateRendering
from tuneoff.data.tokens import Tokenization, load_tokens
from tuneoff.errors import ForeignResultError
from tuneoff.folder import TrialFolder
from tuneoff.measure.clock import Clock
from tuneoff.measure.memory import MemoryMeter
from tuneoff.model.base import ModelClass, build_model, fit_config, make_config
from tuneoff.model.engines import ENGINES, engine_for
from tuneoff.model.methods import adapt
from tuneoff.model.tokenizer import train_tokenizer
from tuneoff.recipe.training import TrainingSpec
from tuneoff.records import RunMark, read_history
from tuneoff.train.loop import NotANumberError, Outcome, Training
from tuneoff.train.probe import StepProbe
from tuneoff.train.steps import Steps, count_steps

RATE = 1e-3
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"r": 4},
    "adalora": {"init_r": 4, "target_r": 2, "tinit": 2, "tfinal": 3, "deltaT": 1},
}


class Setup:
    """A tiny model and 40 examples, ready to be trained in any way."""

    def __init__(self, kind: ModelClass, examples: list[tuple[str, str, str]]) -> None:
        self.kind = kind
        made = [Example(str(n), d, d + "\nSummary:", (s,), {"d": d}) for n, (d, s, _) in enumerate(examples)]
        texts = [t for e in made for t in (e.prompt, *e.references)]
        self.tokenizer = train_tokenizer(texts, 400, kind)
        rendering = TemplateRendering(Prompt("{d}\nSummary:"))
        tokenization = Tokenization(self.tokenizer, kind, rendering, 512, 128)
        self.rows = load_tokens(tokenization.for_training(Examples(made, len(made), 0, 0), lambda done, total: None)[0])

    def model(self, method: str = "full", dropout: float = 0.0) -> Any:
        config = make_config({**MODELS[self.kind], **({"dropout_rate": dropout} if self.kind == "seq2seq" else {})})
        fit_config(config, self.tokenizer, vocab_given=False)
        settings = {**SETTINGS[method], "target_modules": TARGETS[self.kind]} if method in SETTINGS else {}
        torch.manual_seed(3)
        return adapt(build_model(config), method, settings, self.kind, steps=10)

    def steps(self, spec: TrainingSpec, validation: bool = False) -> Steps:
        count = count_steps(len(self.rows), spec)
        return Steps(self.rows, self.rows.select(range(5)) if validation else None, 0, spec.examples_per_step, count)

    def training(
        self,
        model: Any,
        folder: Path,
        spec: TrainingSpec,
        rate: float = RATE,
        validation: bool = False,
        origin: RunMark | None = None,
    ) -> Training:
        engine = "plain" if spec.engine == "plain" else next(n for n, e in ENGINES.items() if e.suits(model) is None)
        steps, bf16 = self.steps(spec, validation), spec.precision == "bf16"
        return Training(
            engine_for(engine, model, bf16=bf16),
            self.tokenizer,
            steps,
            spec,
            rate,
            TrialFolder(folder),
            Clock(),
            origin,
        )

    def train(
        self,
        model: Any,
        folder: Path,
        spec: TrainingSpec,
        *,
        before: Callable[[Training, bool], None] = lambda training, resumed: None,
        stop_after: int | None = None,
        rate: float = RATE,
        validation: bool = False,
        origin: RunMark | None = None,
    ) -> Outcome:
        torch.manual_seed(11)
        done = 0

        def count(step: int, _loss: float, _rate: float) -> None:
            nonlocal done
            done = step

        training = self.training(model, folder, spec, rate, validation, origin)
        outcome = training.run(
            lambda resumed: before(training, resumed), count, lambda: stop_after is not None and done >= stop_after
        )
        training.join_weights()
        return outcome


@pytest.fixture(scope="module", params=["seq2seq", "causal"])
def setup(request: pytest.FixtureRequest) -> Setup:
    from tests.conftest import dialogue

    return Setup(request.param, [dialogue(n) for n in range(40)])


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def plain_training(setup: Setup, spec: TrainingSpec) -> Any:
    """The same work by hand: the model's own mean loss, AdamW, clipping, linear decay."""
    model = setup.model().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    steps = setup.steps(spec)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps.count)
    collate = DataCollatorForSeq2Seq(setup.tokenizer, model=model, pad_to_multiple_of=8)
    order = epoch_order(steps.lengths, spec.examples_per_step, 0, 0)
    for start in range(0, len(order), spec.examples_per_step):
        batch = collate([setup.rows[i] for i in order[start : start + spec.examples_per_step]])
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize(("micro_batch", "engine"), [(None, "plain"), (2, "plain"), (None, "auto"), (2, "auto")])
def test_it_computes_what_a_plain_loop_computes(
    setup: Setup, tmp_path: Path, micro_batch: int | None, engine: Literal["plain", "auto"]
) -> None:
    spec = TrainingSpec(precision="fp32", examples_per_step=8, micro_batch=micro_batch, engine=engine)
    model = setup.model()
    setup.train(model, tmp_path, spec)
    expected = weights(plain_training(setup, spec))
    for name, value in weights(model).items():
        torch.testing.assert_close(value, expected[name], rtol=2e-4, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(
    ("method", "precision"), [("full", "fp32"), ("lora", "fp32"), ("full", "bf16"), ("adalora", "fp32")]
)
def test_stopped_and_resumed_it_ends_bitwise_the_same(
    setup: Setup, tmp_path: Path, method: str, precision: Literal["bf16", "fp32"]
) -> None:
    spec = TrainingSpec(precision=precision, epochs=2, examples_per_step=8, micro_batch=4)
    whole, parts = setup.model(method, dropout=0.1), setup.model(method, dropout=0.1)
    assert not setup.train(whole, tmp_path / "a", spec).stopped
    assert setup.train(parts, tmp_path / "b", spec, stop_after=7).stopped  # inside the second epoch
    outcome = setup.train(setup_again := setup.model(method, dropout=0.1), tmp_path / "b", spec)
    assert (outcome.stopped, outcome.resumed_from_step) == (False, 7)
    ours, theirs = weights(setup_again), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    lines = [read_history(tmp_path / run / "history.jsonl") for run in "ab"]
    assert [(x["step"], x["loss"]) for x in lines[0]] == [(x["step"], x["loss"]) for x in lines[1]]
    seconds = [x["train_seconds"] for x in lines[1]]
    assert seconds == sorted(seconds)


def test_a_damaged_checkpoint_is_passed_over_and_told(setup: Setup, tmp_path: Path) -> None:
    spec = TrainingSpec(precision="fp32", epochs=2, examples_per_step=8)
    setup.train(setup.model(), tmp_path, spec, stop_after=3)
    checkpoints = tmp_path / "checkpoints"
    for step, damage in ((4, "truncate"), (5, "unsealed")):
        copy = shutil.copytree(checkpoints / "checkpoint-3", checkpoints / f"checkpoint-{step}")
        if damage == "truncate":
            (copy / "optimizer.pt").write_bytes((copy / "optimizer.pt").read_bytes()[:-9])
        else:
            (copy / "manifest.json").unlink()
    outcome = setup.train(setup.model(), tmp_path, spec)
    assert outcome.resumed_from_step == 3
    assert outcome.checkpoints_rejected == [
        "checkpoint-5: has no manifest: its writing was cut short",
        "checkpoint-4: optimizer.pt differs from what was written",
    ]


def test_a_checkpoint_of_another_run_is_refused(setup: Setup, tmp_path: Path) -> None:
    spec = TrainingSpec(precision="fp32", epochs=2, examples_per_step=8)
    own, other = (RunMark(run=run, recipe_sha256="0") for run in "ab")
    setup.train(setup.model(), tmp_path, spec, stop_after=3, origin=other)
    with pytest.raises(ForeignResultError, match=r"checkpoint-3 is of another run .* Without .*/checkpoints "):
        setup.train(setup.model(), tmp_path, spec, origin=own)
    assert setup.train(setup.model(), tmp_path, spec, origin=other).resumed_from_step == 3


def test_measuring_a_step_first_changes_nothing(setup: Setup, tmp_path: Path) -> None:
    spec = TrainingSpec(precision="fp32", examples_per_step=8, weight_decay=0.1)
    bare, probed = setup.model(dropout=0.1), setup.model(dropout=0.1)
    setup.train(bare, tmp_path / "a", spec)
    probes = []

    def probe(training: Training, resumed: bool) -> None:
        assert not resumed
        probes.append(StepProbe(training, MemoryMeter(torch.device("cpu"))))
        probes[0].track()
        probes[0].begin()

    setup.train(probed, tmp_path / "b", spec, before=probe)
    ours, theirs = weights(probed), weights(bare)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    memory = probes[0].end()
    assert memory.peak is not None
    assert memory.not_measured is None
    assert memory.components is not None
    size = sum(p.numel() * 4 for p in bare.parameters())
    assert memory.components["weights"] == size
    assert 2 * size <= memory.components["optimizer"] <= 2 * size + 4096  # two moments, and the step counts


def test_a_gradient_that_is_not_finite_stops_before_the_update(setup: Setup, tmp_path: Path) -> None:
    model = setup.model()
    with torch.no_grad():
        next(model.parameters())[5] = float("nan")
    before = weights(model)
    with pytest.raises(NotANumberError, match="at step 1"):
        setup.train(model, tmp_path, TrainingSpec(precision="fp32"))
    after = weights(model)
    assert all(torch.equal(before[name].nan_to_num(), after[name].nan_to_num()) for name in before)


def test_the_validation_loss_is_per_token_and_in_the_history(setup: Setup, tmp_path: Path) -> None:
    model = setup.model()
    setup.train(model, tmp_path, TrainingSpec(precision="fp32"), validation=True)
    logged = [line["eval_loss"] for line in read_history(tmp_path / "history.jsonl") if "eval_loss" in line]
    collate = DataCollatorForSeq2Seq(setup.tokenizer, model=model)
    total = count = 0.0
    for row in setup.rows.select(range(5)):
        batch = collate([row])
        tokens = int((batch["labels"] != -100).sum())
        with torch.no_grad():
            total += float(model.eval()(**batch).loss) * tokens
        count += tokens
    assert logged == [pytest.approx(total / count, rel=1e-4)]


def test_steps_and_work_are_counted(setup: Setup) -> None:
    assert count_steps(40, TrainingSpec(examples_per_step=8)) == 5
    assert count_steps(41, TrainingSpec(examples_per_step=8, epochs=2)) == 12
    assert count_steps(40, TrainingSpec(epochs=0.5, examples_per_step=8)) == 2
    assert count_steps(40, TrainingSpec(max_steps=3)) == 3
    steps = setup.steps(TrainingSpec(examples_per_step=16, epochs=2))  # 3 steps an epoch, the last of 8
    assert sorted(steps.taken()) == sorted([*range(40), *range(40)])
    assert len(setup.steps(TrainingSpec(examples_per_step=16, max_steps=4)).taken()) == 56


def test_a_tokenizer_that_pads_on_the_left_trains_the_same(setup: Setup, tmp_path: Path) -> None:
    spec = TrainingSpec(precision="fp32", examples_per_step=8, micro_batch=4)
    right, left = setup.model(), setup.model()
    setup.train(right, tmp_path / "right", spec)
    setup.tokenizer.padding_side = "left"
    try:
        setup.train(left, tmp_path / "left", spec)
    finally:
        setup.tokenizer.padding_side = "right"
    assert all(torch.equal(value, weights(left)[name]) for name, value in weights(right).items())


@pytest.mark.parametrize("at", [5, 8])  # at the end of an epoch, and inside one
def test_validation_changes_nothing_and_is_resumed_past(setup: Setup, tmp_path: Path, at: int) -> None:
    """A run that stops where an epoch ends, after its validation, ends bitwise as one that does not."""
    spec = TrainingSpec(precision="fp32", epochs=2, examples_per_step=8)
    models = {name: setup.model(dropout=0.1) for name in ("bare", "whole", "parts", "again")}
    setup.train(models["bare"], tmp_path / "bare", spec)
    setup.train(models["whole"], tmp_path / "whole", spec, validation=True)
    setup.train(models["parts"], tmp_path / "parts", spec, validation=True, stop_after=at)
    outcome = setup.train(models["again"], tmp_path / "parts", spec, validation=True)
    assert outcome.resumed_from_step == at
    ours = weights(models["again"])
    for other in ("bare", "whole"):
        assert all(torch.equal(ours[name], value) for name, value in weights(models[other]).items())
    lines = [
        [
            {k: v for k, v in line.items() if k != "train_seconds"}
            for line in read_history(tmp_path / run / "history.jsonl")
        ]
        for run in ("whole", "parts")
    ]
    assert sorted(lines[0], key=str) == sorted(lines[1], key=str)
    assert sum("eval_loss" in line for line in lines[0]) == 2


def test_a_tracker_is_told_what_the_history_is(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, dict[str, float]]] = []

    class Tracker(accelerate.tracking.GeneralTracker):  # type: ignore[misc]
        name, requires_logging_directory, main_process_only = "told", False, True

        def __init__(self, run_name: str, **_: Any) -> None:
            super().__init__()

        @property
        def tracker(self) -> Any:
            return self

        def store_init_configuration(self, values: dict[str, Any]) -> None: ...

        def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
            told.append((step or 0, values))

        def finish(self) -> None:
            told.append((-1, {}))

    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", Tracker)
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", [accelerate.utils.LoggerType.TENSORBOARD])
    monkeypatch.setattr(accelerate.accelerator, "LOGGER_TYPE_TO_CLASS", accelerate.tracking.LOGGER_TYPE_TO_CLASS)
    setup.train(setup.model(), tmp_path, TrainingSpec(precision="fp32", report_to=["tensorboard"]), validation=True)
    lines = read_history(tmp_path / "history.jsonl")
    assert [(line.pop("step"), line) for line in lines] == told[:-1]
    assert told[-1] == (-1, {})  # closed, so that it is not taken for crashed
