"""The page of a run in progress, and the server that shows it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from tuneoff.errors import TuneoffError
from tuneoff.folder import RunFolder
from tuneoff.report.live import Live
from tuneoff.report.page.build import report_html
from tuneoff.use.local.files import add_files
from tuneoff.use.local.guard import Guard
from tuneoff.use.local.server import LocalServer
from tuneoff.visible import visible

PAGE = Path(__file__).parent / "page"
FILES = {"/": PAGE / "index.html", "/watch.js": PAGE / "watch.js", "/watch.css": PAGE / "watch.css"}
# The report says in itself what it may load: nothing.
REPORT_POLICY = {"Content-Security-Policy": "frame-ancestors 'none'"}


def watch_server(folder: RunFolder) -> LocalServer:
    """A server that shows the run in `folder` as it stands. It only reads. Raises RunFolderError where it is no run."""
    return LocalServer(create_app(folder))


def create_app(folder: RunFolder) -> FastAPI:
    """The page, the part of it that changes (`/now`), and the report as far as it goes."""
    live, at_work = Live(folder), asyncio.Lock()
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Guard)

    @app.get("/now")
    async def now() -> HTMLResponse:
        async with at_work:  # several windows ask for the same
            text = await asyncio.to_thread(live.fragment)
        return HTMLResponse(text, headers={"X-Run": quote(visible(folder.path.resolve().name))})

    @app.get("/report.html")
    async def report() -> HTMLResponse:
        try:
            async with at_work:
                text = await asyncio.to_thread(report_html, folder)
        except TuneoffError as error:
            return HTMLResponse(f"There is no report yet: {error}", 503, {"Content-Type": "text/plain; charset=utf-8"})
        return HTMLResponse(text, headers=REPORT_POLICY)

    add_files(app, FILES)
    return app
