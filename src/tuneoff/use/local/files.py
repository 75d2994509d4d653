"""The fixed files of a page: read once, and sent as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response

from tuneoff.report.page.build import HERE as REPORT

KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
SHARED = {
    "/icon.svg": Path(__file__).parent / "icon.svg",
    "/charts.css": REPORT / "charts.css",  # the report's colours,
    "/report.css": REPORT / "page.css",  # and its type
}


def add_files(app: FastAPI, own: Mapping[str, Path]) -> None:
    """Let `app` answer with the files of its page, by their addresses, and with those that all pages share."""
    for address, file in {**SHARED, **own}.items():
        app.add_api_route(address, _fixed(file.read_bytes(), KINDS[file.suffix]), include_in_schema=False)


def _fixed(content: bytes, kind: str) -> Callable[[], Any]:
    async def send() -> Response:
        return Response(content, media_type=kind)

    return send
