"""A small finished run, served by uvicorn in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from tests.conftest import recipe_values
from tests.runner.resolving import begin, resolved_for
from tests.runner.test_trial import carry_out
from tuneoff.folder import RunFolder
from tuneoff.recipe import trials
from tuneoff.records import Prediction, read_predictions
from tuneoff.use.serve import Limits, choose_arms, listen, load_server

ARMS = ["original", "full", "lora", "dora"]  # lora and dora are merged when their turn comes


@pytest.fixture(scope="session")
def run(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    values = recipe_values(data_folder)
    values["arms"]["dora"] = {**values["arms"]["lora"], "use_dora": True, "r": 2}
    recipe, folder = begin(values, tmp_path_factory.mktemp("serve") / "run")
    resolved = resolved_for(recipe, folder)
    for trial in trials(recipe):
        carry_out(folder, resolved, trial)
    return folder


@pytest.fixture(scope="session")
def predictions(run: RunFolder) -> dict[str, list[Prediction]]:
    """What each arm's trial wrote."""
    return {arm: read_predictions(run.trial(arm, 0).predictions) for arm in ARMS}


@contextmanager
def running(server: uvicorn.Server) -> Iterator[httpx.Client]:
    """A client of `server`, which runs in a thread."""
    with listen(0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            with httpx.Client(base_url=url, timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(20)
            server.force_exit = True  # a connection that a busy machine has not closed keeps nothing up
            thread.join(20)


@pytest.fixture(scope="session")
def client(run: RunFolder) -> Iterator[httpx.Client]:
    with running(load_server(choose_arms(run, []), Limits())) as client:
        yield client
