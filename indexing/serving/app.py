"""The service as a FastAPI app: queries, clips, their media, the page. Independent of Ray; `deploy.py` starts it."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from encoders.media.container import MediaLimits
from indexing.search.client import SearchClient
from indexing.serving.batching import BatcherConfig
from indexing.serving.clip_routes import PROBLEMS, State, add_clips, milvus_errors_as_503
from indexing.serving.clip_urls import ClipUrls, UrlPolicy
from indexing.serving.middleware import Guard, Limits
from indexing.serving.problems import ProblemError, problem_body
from indexing.serving.schemas import SearchRequest, SearchResponse, search_response

WEB_DIR = Path(__file__).resolve().parent / "web"
UPLOAD_LIMITS = MediaLimits(
    max_pixels=4096 * 2304, max_streams=8, max_duration_s=600.0, max_frames=180_000
)
"""Limits of query clips that are uploaded or fetched by URL."""
_CSP = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; style-src 'self'; script-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AppConfig:
    """Limits of requests, batching of queries and policy of query clips by URL."""

    limits: Limits = field(default_factory=Limits)
    batching: BatcherConfig = field(default_factory=BatcherConfig)
    urls: UrlPolicy = field(default_factory=UrlPolicy)


def create_app(open_client: Callable[[], SearchClient], config: AppConfig | None = None) -> Guard:
    """The app behind its guard; `open_client` runs when the service starts."""
    config = config or AppConfig()
    state = State(open_client, config.batching)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await to_thread.run_sync(state.start)
        yield
        await to_thread.run_sync(state.stop)

    app = FastAPI(
        title="tfcovr",
        summary="Composed video retrieval: a clip and what should be different",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    _add_problems(app)
    _add_queries(app, state, ClipUrls(config.urls))
    add_clips(app, state)
    _add_health(app, state)
    app.mount("/web", StaticFiles(directory=WEB_DIR, follow_symlink=False), name="web")
    return Guard(app, config.limits)


def _add_problems(app: FastAPI) -> None:
    def refuse(request: Request, status: int, detail: str, headers: dict | None = None) -> Response:
        body = problem_body(status, detail, request.state.request_id)
        kind = "application/problem+json"
        return JSONResponse(body, status, headers=headers, media_type=kind)

    @app.exception_handler(ProblemError)
    async def _problem(request: Request, problem: ProblemError) -> Response:
        return refuse(request, problem.status, problem.detail, problem.headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        return refuse(request, 422, _first_errors(error.errors()))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        return refuse(request, error.status_code, str(error.detail), dict(error.headers or {}))


def _add_queries(app: FastAPI, state: State, urls: ClipUrls) -> None:
    schema = SearchRequest.model_json_schema()
    multipart = {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "the JSON of a query"},
            "video": {"type": "string", "format": "binary"},
        },
    }
    body = {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema},
                "multipart/form-data": {"schema": multipart},
            },
        }
    }

    described: dict[str, Any] = {"responses": PROBLEMS, "openapi_extra": body, "tags": ["search"]}

    @app.post("/v1/search", response_model=SearchResponse, **described)
    async def search(request: Request) -> Response:
        """Search for clips like the query clip, changed as the edits say. The query clip may be an uploaded video."""
        body, upload = await _read_search(request)
        if body.clip_url and upload is None:
            upload = await urls.fetch(body.clip_url)
        try:
            query = body.query(upload)
        except ValueError as error:
            raise ProblemError(422, str(error)) from error
        result = await state.batcher.search(query)
        answer = search_response(result, request.state.request_id)  # checked once, here
        return Response(answer.model_dump_json(), media_type="application/json")


async def _read_search(request: Request) -> tuple[SearchRequest, bytes | None]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    upload: bytes | None = None
    if kind == "application/json":
        text: bytes | str = await request.body()
    elif kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=4, max_part_size=65_536) as form:
            given = form.get("query", "{}")
            video = form.get("video")
            if not isinstance(given, str) or isinstance(video, str):
                raise ProblemError(422, "`query` must be JSON text and `video` a file")
            text = given
            upload = None if video is None else await video.read()
    else:
        raise ProblemError(415, "send application/json or multipart/form-data")
    try:
        parsed = SearchRequest.model_validate(json.loads(text))
    except ValidationError as error:
        raise ProblemError(422, _first_errors(error.errors())) from error
    except (ValueError, RecursionError) as error:
        raise ProblemError(400, "the query is not JSON") from error
    return parsed, upload


def _add_health(app: FastAPI, state: State) -> None:
    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", responses=PROBLEMS, tags=["health"])
    def readyz() -> dict[str, str]:
        """Whether the encoder is loaded and Milvus answers."""
        milvus_errors_as_503(state.batcher.client.collection.exists)
        return {"status": "ready"}

    @app.get("/metrics", tags=["health"])
    def metrics() -> Response:
        """Metrics for Prometheus."""
        data = state.batcher.quality.exposition()
        return Response(data, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/quality", tags=["health"])
    def quality() -> dict[str, Any]:
        """Latency, rate and recall of recent queries."""
        return state.batcher.quality.summary()

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        data = (WEB_DIR / "index.html").read_bytes()
        return Response(data, 200, {"content-security-policy": _CSP}, "text/html; charset=utf-8")


def _first_errors(errors: Any) -> str:
    parts = [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in list(errors)[:3]]
    return "; ".join(parts)
