"""The service as a FastAPI app: queries, clips, their media, the page. Independent of Ray; `deploy.py` starts it."""

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from encoders.media.container import MediaLimits
from indexing.search.client import SearchClient
from indexing.search.types import UploadedVideo
from indexing.serving.batching import BatcherConfig
from indexing.serving.clip_urls import ClipUrls, UrlPolicy
from indexing.serving.guard.access import HEALTH_PATH
from indexing.serving.guard.limits import Limits
from indexing.serving.guard.middleware import Guard
from indexing.serving.guard.problems import MEDIA_TYPE, ProblemError, problem_json
from indexing.serving.metrics import Quality
from indexing.serving.routes.clips import (
    PROBLEMS,
    State,
    add_clips,
    add_clips_by_path,
    client_of,
    milvus_errors_as_503,
)
from indexing.serving.routes.labels import add_label_routes
from indexing.serving.routes.page import add_page_routes
from indexing.serving.schemas import SearchRequest, SearchResponse, search_response
from indexing.serving.spans import QuerySpans
from indexing.serving.uploads import QueryReader
from indexing.sources.asked_counts import AskedCounts

WEB_DIR = Path(__file__).resolve().parent / "web"
UPLOAD_LIMITS = MediaLimits(
    max_pixels=4096 * 2304, max_streams=8, max_duration_s=600.0, max_frames=180_000
)
"""Limits of query clips that are uploaded or fetched by URL."""
_COUNTS_EVERY_S = 10.0
_NUM_THREADS = 8
"""Of short calls, such as the lookup of a clip; with as many threads as there are requests, the event loop would be one of many that wait
for the interpreter."""
_CSP = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; style-src 'self'; script-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AppConfig:
    """Limits of requests, batching of queries and policy of query clips by URL; who watches the service."""

    limits: Limits = field(default_factory=Limits)
    batching: BatcherConfig = field(default_factory=BatcherConfig)
    urls: UrlPolicy = field(default_factory=UrlPolicy)
    labels: Path | None = None
    """Folder that clicks are written to; None = there are no routes that write."""
    asked: Path | None = None
    """Folder of the counts of clips that are asked for; None = nothing is counted."""
    spans: QuerySpans = field(default_factory=lambda: QuerySpans(None))
    while_serving: Callable[[Quality], AbstractContextManager[object]] = nullcontext
    """Entered once the client is open, and left at the end."""


def create_app(open_client: Callable[[], SearchClient], config: AppConfig | None = None) -> Guard:
    """The app behind its guard; `open_client` runs when the service starts."""
    config = config or AppConfig()
    state = State(open_client, config.batching, config.labels)
    reader = QueryReader(max_json_bytes=config.limits.max_json_bytes)
    urls = ClipUrls(config.urls)
    asked = None if config.asked is None else AskedCounts(config.asked)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await to_thread.run_sync(state.start)
        to_thread.current_default_thread_limiter().total_tokens = _NUM_THREADS
        with ExitStack() as stack:
            stack.enter_context(config.while_serving(state.batcher.quality))
            if asked is not None:
                stack.enter_context(asked.written(every_s=_COUNTS_EVERY_S))
            yield
        for end in (reader.close, urls.close, state.stop):
            await to_thread.run_sync(end)

    app = FastAPI(
        title="tfcovr",
        summary="Composed video retrieval: a clip and what should be different",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        servers=[{"url": "/", "description": "the service that this document comes from"}],
    )
    _describe_token(app)
    _add_problems(app)
    _add_queries(app, state, reader, urls, config.spans, asked)
    add_clips(app, state)
    add_clips_by_path(app, state)
    add_page_routes(app, state, reader)
    if config.labels is not None:
        add_label_routes(app, state, reader)
    _add_health(app, state)
    app.mount("/web", StaticFiles(directory=WEB_DIR, follow_symlink=False), name="web")
    return Guard(app, config.limits)


def _describe_token(app: FastAPI) -> None:
    """Name the bearer token in the OpenAPI document; the guard asks for it, where the service has one."""
    document = app.openapi

    def openapi() -> dict[str, Any]:
        described = document()
        schemes = described.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["token"] = {"type": "http", "scheme": "bearer"}
        described["security"] = [{"token": []}, {}]
        return described

    app.openapi = openapi


def _add_problems(app: FastAPI) -> None:
    def refuse(request: Request, status: int, detail: str, headers: dict | None = None) -> Response:
        body = problem_json(status, detail, request.state.request_id)
        return Response(body, status, headers, MEDIA_TYPE)

    @app.exception_handler(ProblemError)
    async def _problem(request: Request, problem: ProblemError) -> Response:
        return refuse(request, problem.status, problem.detail, problem.headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        parts = [
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            for problem in error.errors()[:3]
        ]
        return refuse(request, 422, "; ".join(parts)[:1000])

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        return refuse(request, error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, _error: Exception) -> Response:
        # Starlette sends this and raises the error again, for the guard's log.
        return refuse(request, 500, "internal error of the service; see its log")


def _add_queries(
    app: FastAPI,
    state: State,
    reader: QueryReader,
    urls: ClipUrls,
    spans: QuerySpans,
    asked: AskedCounts | None,
) -> None:
    schema = SearchRequest.model_json_schema()
    multipart = {
        "type": "object",
        "properties": {
            "query": {
                "type": "string",
                "description": "the JSON of a query",
                "examples": ['{"edits": ["with one more twist"]}'],
            },
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
        client = client_of(request)
        with spans.query(request.headers) as answered, ExitStack() as files:
            body, upload = await reader.read(request, files)
            if body.clip_url and upload is None:
                file = files.enter_context(tempfile.NamedTemporaryFile(suffix=".video"))
                await urls.fetch(body.clip_url, cast("BinaryIO", file), client=client)
                upload = UploadedVideo(path=Path(file.name))
            try:
                query = body.query(upload)
            except ValueError as error:
                raise ProblemError(422, str(error)) from error
            result = await state.batcher.search(query, client=client)
            answered(result.timings_ms)
        if asked is not None:
            asked.add(place.clip_id for place in (result.query, *result.hits))
        answer = search_response(result, request.state.request_id)  # checked once, here
        return Response(answer.model_dump_json(), media_type="application/json")


def _add_health(app: FastAPI, state: State) -> None:
    @app.get(HEALTH_PATH, tags=["health"])
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

    @app.get("/v1/quality", responses=PROBLEMS, tags=["health"])
    def quality() -> dict[str, Any]:
        """Latency, rate and recall of recent queries."""
        return state.batcher.quality.summary()

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        data = (WEB_DIR / "index.html").read_bytes()
        return Response(data, 200, {"content-security-policy": _CSP}, "text/html; charset=utf-8")
