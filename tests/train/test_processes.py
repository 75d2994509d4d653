"""A step that is shared out over two processes has the loss and the gradient of one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import dialogue
from tests.train.test_loop import Setup
from tuneoff.recipe.training import TrainingSpec
from tuneoff.train.adamw import ExactAdamW
from tuneoff.train.loop import Training
from tuneoff.train.optimizer import gradient_norm

SPEC = TrainingSpec(examples_per_step=7, micro_batch=2)


def step(folder: Path, method: str, precision: str) -> dict[str, Any]:
    """Loss and gradient of two steps in this process: of several parts, and of one, which leaves a process without."""
    setup = Setup("seq2seq", [dialogue(n) for n in range(14)])
    spec = SPEC.model_copy(update={"precision": precision})
    training: Training = setup.training(setup.model(method), folder, spec, validation=True)
    optimizer, found = training.optimizer, {}
    examples = training.steps.examples(0)
    for name, parts in (("several", training.split(examples)), ("one", [examples[:2]])):
        loss = training.backward([training.batch(part) for part in parts], training.tokens(examples))
        gradients = [
            optimizer.gradient(weight) if isinstance(optimizer, ExactAdamW) else weight.grad
            for group in optimizer.param_groups
            for weight in group["params"]
        ]
        found[name] = {"loss": loss, "norm": gradient_norm(optimizer), "gradients": [g.clone() for g in gradients]}
        optimizer.zero_grad()
    return {**found, "validation": training.validate()}


@pytest.mark.parametrize(("method", "precision"), [("full", "bf16"), ("adalora", "fp32")])
def test_two_processes_make_the_step_of_one(tmp_path: Path, method: str, precision: str) -> None:
    alone = step(tmp_path / "alone", method, precision)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
              "LOCAL_WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}  # fmt: skip
    command = [sys.executable, "-m", "tests.train.test_processes", str(tmp_path), method, precision]
    processes = [
        subprocess.Popen(
            command, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, cwd=Path(__file__).parents[2]
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=400) for process in processes] == [0, 0]
    bound = 1e-5 if precision == "fp32" else 1e-2
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found["validation"] == pytest.approx(alone["validation"], rel=1e-5)
        for name in ("several", "one"):
            assert found[name]["loss"] == pytest.approx(alone[name]["loss"], rel=1e-5)
            assert found[name]["norm"] == pytest.approx(alone[name]["norm"], rel=bound)
            for ours, theirs in zip(found[name]["gradients"], alone[name]["gradients"], strict=True):
                assert float((ours - theirs).norm()) <= bound * alone[name]["norm"]


if __name__ == "__main__":
    rank = os.environ["RANK"]
    torch.save(step(Path(sys.argv[1]) / rank, sys.argv[2], sys.argv[3]), Path(sys.argv[1]) / f"{rank}.pt")
