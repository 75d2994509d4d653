"""A socket on this machine's loopback address, and uvicorn on it until Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import socket
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from tuneoff.errors import AddressError

ADDRESS = "127.0.0.1"
FORCED = 130  # what a shell makes of Ctrl-C
CONNECTIONS = 256


def listen(port: int) -> socket.socket:
    """A socket that listens on `port` of 127.0.0.1, or on a free one for 0. Raises AddressError."""
    try:
        listening = socket.create_server((ADDRESS, port))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise AddressError(f"cannot serve on port {port}: {reason}. --port 0 takes a free one.") from None
    # asyncio sets this only for sockets of its own making; without it, each answer waits 40 ms for an acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


class LocalServer(uvicorn.Server):
    """uvicorn for `app` that lets the process end with status 0 when asked to end, and at once when asked again."""

    def __init__(self, app: ASGIApp, connections: int = CONNECTIONS) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                server_header=False,
                ws="none",
                limit_concurrency=connections,
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:  # asked again, while an answer is still at work
            os._exit(FORCED)
        self.should_exit = True
