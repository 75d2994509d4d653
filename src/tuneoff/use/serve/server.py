"""The server: uvicorn on this machine's loopback address, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import socket
from types import FrameType

import uvicorn

from tuneoff.errors import AddressError
from tuneoff.measure import allocator
from tuneoff.use.serve.app import create_app
from tuneoff.use.serve.arms import Served
from tuneoff.use.serve.batches import Batches
from tuneoff.use.serve.messages import Limits
from tuneoff.use.serve.models import Models

ADDRESS = "127.0.0.1"
FORCED = 130  # what a shell makes of Ctrl-C


def listen(port: int) -> socket.socket:
    """A socket that listens on `port` of 127.0.0.1, or on a free one for 0. Raises AddressError."""
    try:
        listening = socket.create_server((ADDRESS, port))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise AddressError(f"cannot serve on port {port}: {reason}. --port 0 takes a free one.") from None
    # asyncio does so for sockets of its own making alone; without, each answer waits 40 ms for an acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


class Server(uvicorn.Server):
    """uvicorn that refuses what waits when it is to end, and leaves the process to end with status 0."""

    def __init__(self, config: uvicorn.Config, batches: Batches) -> None:
        super().__init__(config)
        self._batches = batches

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:  # asked again, while a batch is still at work
            os._exit(FORCED)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._batches.close()
        await super().shutdown(sockets)


def load_server(served: Served, limits: Limits) -> Server:
    """Load the arms and make ready to serve them. Raises ModelError."""
    allocator.quick()  # as a trial evaluates
    models = Models(served.arms)
    names = [arm.name for arm in served.arms]
    batches = Batches(models.writer, names, served.arms[0].recipe.evaluation.batch_size, limits.waiting)
    config = uvicorn.Config(
        create_app(served, models.weights_bytes, batches, limits),
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        limit_concurrency=limits.connections,
    )
    return Server(config, batches)
