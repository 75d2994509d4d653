"""The small finished run, served by uvicorn in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn

from tuneoff.folder import RunFolder
from tuneoff.use.serve import Limits, choose_arms, listen, load_server


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
