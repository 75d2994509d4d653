"""Who may ask, and how much: checked before a request is read."""

from __future__ import annotations

import asyncio
import re
import time
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HERE = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
# The page needs its own files and this server's answers; nothing else is ever loaded, and nobody may frame it.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware: refuses foreign names and pages, and large or slow bodies; sets headers that an answer lacks.

    A page of another site may let its own name point to 127.0.0.1 (DNS rebinding): its requests then name that host.
    Where it asks 127.0.0.1 itself, the browser names the page's origin. A body has at most `body_bytes`, and must be
    there after `body_seconds`.
    """

    def __init__(self, app: ASGIApp, body_bytes: int = 0, body_seconds: float = 10.0) -> None:
        self._app, self._body_bytes, self._body_seconds = app, body_bytes, body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(scope["method"], Headers(scope=scope))
        except HTTPException as refused:
            response = JSONResponse({"error": refused.detail, "problems": []}, refused.status_code)
            await response(scope, receive, send_guarded)
            return
        await self._app(scope, self._bounded(receive), send_guarded)

    def _check(self, method: str, headers: Headers) -> None:
        host = headers.get("host", "")
        if not HERE.fullmatch(host):
            raise HTTPException(
                HTTPStatus.MISDIRECTED_REQUEST, f"no host {host!r} here: ask for 127.0.0.1, localhost or [::1]"
            )
        if method in ("GET", "HEAD"):
            return
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            raise HTTPException(HTTPStatus.FORBIDDEN, f"a page of {origin!r} may not ask here")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._body_bytes:
            raise self._too_large()
        kind = headers.get("content-type", "")
        if method == "POST" and kind.partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the content type must be application/json, got {kind!r}"
            )

    def _bounded(self, receive: Receive) -> Receive:
        """`receive` that raises HTTPException while the body comes, where that is too large or too slow."""
        size, whole = 0, False
        end = time.monotonic() + self._body_seconds

        async def receive_bounded() -> Message:
            nonlocal size, whole
            if whole:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), end - time.monotonic())
            except TimeoutError:
                raise HTTPException(
                    HTTPStatus.REQUEST_TIMEOUT, f"the body was not there after {self._body_seconds:g} s"
                ) from None
            size += len(message.get("body", b""))
            if size > self._body_bytes:
                raise self._too_large()
            whole = not message.get("more_body", False)
            return message

        return receive_bounded

    def _too_large(self) -> HTTPException:
        return HTTPException(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body may have {self._body_bytes:,} bytes: ask for fewer at once",
        )
