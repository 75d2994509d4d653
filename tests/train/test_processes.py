"""A step that is shared out over two processes has the loss and the gradient of one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import dialogue
from tests.train.test_loop import Setup
from tuneoff.recipe.schema import TrainingSpec
from tuneoff.train.loop import Training
from tuneoff.train.optimizer import gradient_norm

SPEC = TrainingSpec(examples_per_step=7, micro_batch=2)  # parts that two processes cannot share evenly


def step(folder: Path, method: str, precision: str) -> dict[str, torch.Tensor | float]:
    """The loss and the gradient of the first step, in this process."""
    setup = Setup("seq2seq", [dialogue(n) for n in range(14)])
    spec = SPEC.model_copy(update={"precision": precision})
    training: Training = setup.training(setup.model(method), folder, spec)
    examples = training.steps.examples(0)
    parts = training.split(examples)
    assert len(parts) > 1
    loss = training.backward([training.batch(part) for part in parts], training.tokens(examples))
    return {"loss": loss, "norm": gradient_norm(training.optimizer)}


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
    assert [process.wait(timeout=200) for process in processes] == [0, 0]
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        assert found["norm"] == pytest.approx(alone["norm"], rel=1e-5 if precision == "fp32" else 1e-3)


if __name__ == "__main__":
    rank = os.environ["RANK"]
    torch.save(step(Path(sys.argv[1]) / rank, sys.argv[2], sys.argv[3]), Path(sys.argv[1]) / f"{rank}.pt")
