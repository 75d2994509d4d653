"""The server of a run's arms."""

from __future__ import annotations

import socket

from starlette.types import ASGIApp

from tuneoff.measure import allocator
from tuneoff.use.local.server import LocalServer
from tuneoff.use.serve.app import create_app
from tuneoff.use.serve.arms import Served
from tuneoff.use.serve.batches import Batches
from tuneoff.use.serve.messages import Limits
from tuneoff.use.serve.models import Models


class Server(LocalServer):
    """Refuses what waits when it is to end."""

    def __init__(self, app: ASGIApp, batches: Batches, connections: int) -> None:
        super().__init__(app, connections)
        self._batches = batches

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._batches.close()
        await super().shutdown(sockets)


def load_server(served: Served, limits: Limits) -> Server:
    """Load the arms and make ready to serve them. Raises ModelError."""
    allocator.quick()  # as a trial evaluates
    models = Models(served.arms)
    names = [arm.name for arm in served.arms]
    batches = Batches(models.writer, names, served.arms[0].recipe.evaluation.batch_size, limits.waiting)
    return Server(create_app(served, models.weights_bytes, batches, limits), batches, limits.connections)
