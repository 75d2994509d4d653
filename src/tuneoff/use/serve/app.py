"""The API and the page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from tuneoff.data.conversations import MESSAGES
from tuneoff.errors import TuneoffError
from tuneoff.report.card.build import model_origin
from tuneoff.runner.finished import Finished
from tuneoff.use.local.files import add_files
from tuneoff.use.local.guard import Guard
from tuneoff.use.serve.arms import Served
from tuneoff.use.serve.batches import Batches, ClosedError, FailedError, Finding, FullError
from tuneoff.use.serve.messages import (
    About,
    Answer,
    Answers,
    ArmInfo,
    Example,
    Health,
    Limits,
    LimitsInfo,
    ProblemInfo,
    Refusal,
    asked_model,
    problem,
)
from tuneoff.version import __version__

PAGE = Path(__file__).parent / "page"
TOLD = 10  # problems of a body
FILES = {"/": PAGE / "index.html", "/serve.js": PAGE / "serve.js", "/serve.css": PAGE / "serve.css"}
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "The body is no JSON."},
    403: {"model": Refusal, "description": "Asked by a page of another site."},
    408: {"model": Refusal, "description": "The body did not come in time."},
    413: {"model": Refusal, "description": "The body is too large."},
    415: {"model": Refusal, "description": "The content type is not application/json."},
    422: {"model": Refusal, "description": "The body says something else than what is asked for; told in `problems`."},
    500: {"model": Refusal, "description": "An arm could not write; the server's terminal says why."},
    503: {"model": Refusal, "description": "Too much waits already (see Retry-After), or the server is shutting down."},
    504: {"model": Refusal, "description": "The texts were not written in time."},
}
MISDIRECTED: dict[int | str, dict[str, Any]] = {
    421: {"model": Refusal, "description": "The Host header names another host."}
}


def create_app(served: Served, weights_bytes: int, batches: Batches, limits: Limits) -> FastAPI:
    """The application; `batches` work while it lives."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        batches.start()
        try:
            yield
        finally:
            batches.close()
            await asyncio.to_thread(batches.join)

    about = _about(served, weights_bytes, limits)
    app = FastAPI(
        title=f"tuneoff: the arms of {about.run}",
        description="What each arm of a run writes for new rows.",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # Swagger's page would load its scripts from elsewhere
        redoc_url=None,
        responses=MISDIRECTED,
    )
    app.add_middleware(Guard, body_bytes=limits.body_bytes, body_seconds=limits.body_seconds)
    _answer_in_words(app, about)
    _add_generate(app, served, batches, about, limits)

    @app.get("/api/arms", summary="The run and its arms")
    async def arms() -> About:
        return about

    @app.get("/api/examples", summary="Examples to try")
    async def examples() -> list[Example]:
        return [
            Example(id=one.id, row=one.columns or {about.input: one.input}, references=one.references)
            for one in served.examples
        ]

    @app.get("/health", summary="Is it there")
    async def health() -> Health:
        return Health(waiting=batches.waiting)

    add_files(app, FILES)
    return app


def _about(served: Served, weights_bytes: int, limits: Limits) -> About:
    first = served.arms[0]
    recipe = first.recipe
    return About(
        run=served.folder.path.resolve().name,
        model=model_origin(recipe, first.resolved).name or "random weights",
        columns=list(dict.fromkeys(first.tokenization.rendering.columns)),
        input=recipe.data.input or MESSAGES,
        prompt=recipe.prompt,
        max_source_length=recipe.data.max_source_length,
        max_new_tokens=recipe.evaluation.max_new_tokens,
        arms=[
            ArmInfo(
                name=arm.name,
                method=arm.spec.method,
                seed=arm.seed,
                trainable=arm.result.parameters.trainable if arm.result.parameters else None,
            )
            for arm in served.arms
        ],
        unfinished=served.unfinished,
        weights_bytes=weights_bytes,
        limits=LimitsInfo(
            rows=limits.rows, characters=limits.characters, body_bytes=limits.body_bytes, seconds=limits.seconds
        ),
    )


def _add_generate(app: FastAPI, served: Served, batches: Batches, about: About, limits: Limits) -> None:
    async def generate(request: Request, asked: Any) -> Answers:
        rows = [row.model_dump(by_alias=True) for row in asked.rows]
        wanted: list[Future[Finding]] = []
        await asyncio.to_thread(_require_askable, served.arms[0], rows)
        try:
            wanted = batches.ask(asked.arms, rows)
            found = await _found(request, wanted, limits.seconds)
        except FullError as full:
            headers = {"Retry-After": str(full.retry_seconds)}
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "too many texts wait already", headers) from None
        except ClosedError:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, "the server is shutting down") from None
        except FailedError as failed:
            raise HTTPException(HTTPStatus.INTERNAL_SERVER_ERROR, str(failed)) from None
        finally:
            for one in wanted:
                one.cancel()  # what nobody waits for is not computed
        columns = [found[n :: len(rows)] for n in range(len(rows))]
        return Answers(rows=[dict(zip(asked.arms, map(_answer, column), strict=True)) for column in columns])

    # The columns and arms are known only now.
    generate.__annotations__["asked"] = asked_model(
        about.columns, about.input, [arm.name for arm in about.arms], limits
    )
    app.post("/api/generate", summary="What the arms write", responses=REFUSALS)(generate)


def _require_askable(arm: Finished, rows: Sequence[Mapping[str, str]]) -> None:
    """Raise HTTPException for a row that the model cannot be asked, such as turns that its chat template refuses.

    Later, it would take others' rows of the same batch with it.
    """
    for place, row in enumerate(rows):
        try:
            arm.tokenization.prompts([row])
        except TuneoffError as error:
            raise HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, f"rows.{place}: {error}") from None


async def _found(request: Request, wanted: Sequence[Future[Finding]], seconds: float) -> list[Finding]:
    """What was written, if it is in time, and while somebody waits for it. Raises HTTPException."""
    found = asyncio.ensure_future(_all(wanted))
    gone = asyncio.ensure_future(_gone(request))
    either: list[asyncio.Future[Any]] = [found, gone]
    try:
        done, _ = await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
    if found in done:
        return found.result()
    found.cancel()
    if gone in done:
        raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, "the client has gone")  # nobody reads it
    raise HTTPException(HTTPStatus.GATEWAY_TIMEOUT, f"not written within {seconds:g} s: ask for fewer at once")


async def _all(wanted: Sequence[Future[Finding]]) -> list[Finding]:
    return [await asyncio.wrap_future(one) for one in wanted]


async def _gone(request: Request) -> None:
    """Ends when the client does."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _answer(found: Finding) -> Answer:
    written = found.written
    return Answer(
        text=written.text,
        truncated=written.truncated,
        tokens=written.tokens,
        prompt_tokens=written.prompt_tokens,
        read_tokens=written.read_tokens,
        prompt_truncated=written.read_tokens < written.prompt_tokens,
        seconds=round(found.seconds, 4),
        batch=found.batch,
        waited_seconds=round(found.waited_seconds, 4),
    )


def _answer_in_words(app: FastAPI, about: About) -> None:
    """Every refusal is a Refusal."""

    def refuse(status: int, error: str, problems: Sequence[ProblemInfo] = (), headers: Any = None) -> JSONResponse:
        return JSONResponse(Refusal(error=error, problems=list(problems)).model_dump(), status, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()
        if found[0]["type"] == "json_invalid":
            where = f"at character {found[0]['loc'][1]}"
            return refuse(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {found[0]['ctx']['error']} ({where})")
        arms = [arm.name for arm in about.arms]
        problems = [problem(one, about.columns, arms) for one in found[:TOLD]]
        more = [f"and {len(found) - TOLD} more"] if len(found) > TOLD else []
        return refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join([*map(str, problems), *more]), problems)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        words = error.detail
        if isinstance(error.__cause__, UnicodeDecodeError):
            words = f"the body is not UTF-8 (byte {error.__cause__.start})"
        elif isinstance(error.__cause__, RecursionError):
            words = "the body is nested too deeply"
        elif error.status_code == HTTPStatus.NOT_FOUND:
            words = f"nothing at {request.url.path}; the API is described in /openapi.json"
        elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            words = f"{request.url.path} does not take {request.method}"
        return refuse(error.status_code, words, headers=error.headers)
