"""Routes of clips, their media and the collection, and the state that all routes share."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, Header, Query, Request
from fastapi.responses import Response, StreamingResponse

from encoders.bundle.calibration import STATED_PRECISION
from encoders.clips import is_storable
from indexing.labelling.desk import LabelDesk
from indexing.search.client import SearchClient
from indexing.search.filters import FilterFields
from indexing.search.types import ClipPlace
from indexing.serving.batching import BatcherConfig, QueryBatcher
from indexing.serving.guard.problems import ProblemError
from indexing.serving.guard.work_queue import WorkQueue
from indexing.serving.media import Media, checked_path, media_type, parse_range, read_range
from indexing.serving.schemas import CLIP_EXAMPLE, ClipBody, Problem, clip_body
from indexing.store.client import MilvusBusyError

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "content": {"application/problem+json": {}}}
    for status in (400, 401, 403, 404, 408, 413, 415, 416, 422, 429, 500, 503, 504)
}


_MEDIA = PROBLEMS | {206: {"description": "the bytes that the header Range asks for"}}
_MOST_ID_BYTES = 4096
CLIP_ID: str = Query(
    alias="id",
    min_length=1,
    max_length=_MOST_ID_BYTES,
    description="clip id",
    examples=[CLIP_EXAMPLE],
)
_TRIM: bool = Query(False, description="exactly the clip's span, as an MP4")
_RANGE: str | None = Header(None, alias="range", max_length=256)
_MEDIA_HEADERS = {"accept-ranges": "bytes", "cache-control": "private, max-age=3600"}


class State:
    """State of the service: the batcher once it has started, the media, and the desk for labels where there is a folder for them."""

    def __init__(
        self,
        open_client: Callable[[], SearchClient],
        config: BatcherConfig,
        labels: Path | None = None,
    ) -> None:
        self._open_client, self._config, self._labels = open_client, config, labels
        self.media = Media()
        self.cut_lists: WorkQueue[bytes] = WorkQueue("the list of cuts", deadline_s=60.0)
        self.label_work: WorkQueue[Any] = WorkQueue(
            "labelling", deadline_s=60.0, remember_failure_s=1.0
        )
        self._batcher: QueryBatcher | None = None
        self._desk: LabelDesk | None = None

    @property
    def desk(self) -> LabelDesk:
        """The desk for labels; 503 while the service starts."""
        if self._desk is None:
            raise ProblemError(503, "the service is starting", {"retry-after": "2"})
        return self._desk

    @property
    def batcher(self) -> QueryBatcher:
        """The batcher; 503 while the service starts."""
        if self._batcher is None:
            raise ProblemError(503, "the service is starting", {"retry-after": "2"})
        return self._batcher

    @property
    def can_label(self) -> bool:
        """Whether labels may be written."""
        return self._labels is not None

    def start(self) -> None:
        """Open the client and warm it up."""
        batcher = QueryBatcher(self._open_client(), self._config)
        batcher.warm_up()
        if self._labels is not None:
            self._desk = LabelDesk(batcher.client, self._labels)
            self._desk.refit_beside()  # the first question finds it done
        self._batcher = batcher

    def stop(self) -> None:
        """Close the media, the queues, the desk and the client."""
        self.media.close()
        self.cut_lists.close()
        self.label_work.close()
        if self._desk is not None:
            self._desk.close()
            self._desk = None
        if self._batcher is not None:
            self._batcher.close()
            self._batcher = None

    async def place(self, clip_id: str) -> ClipPlace:
        """A clip of the collection, or 404."""
        place = None
        if is_storable(clip_id) and len(clip_id.encode()) <= _MOST_ID_BYTES:
            find = partial(self.batcher.client.place_of, clip_id)
            place = await to_thread.run_sync(milvus_errors_as_503, find)
        if place is None:
            raise ProblemError(404, "the collection has no such clip")
        return place


def milvus_errors_as_503(call: Callable[[], Any]) -> Any:
    """The result of a call to Milvus; ProblemError 503 where Milvus does not answer."""
    try:
        return call()
    except (MilvusBusyError, ConnectionError) as error:
        raise ProblemError(503, "Milvus does not answer", {"retry-after": "2"}) from error


def add_clips(app: FastAPI, state: State) -> None:
    """Add the routes to an app."""

    @app.get("/v1/clips", responses=PROBLEMS, tags=["clips"])
    def clips(
        label: str = Query("", max_length=256, description="part of a label or clip id"),
        limit: int = Query(24, ge=1, le=100),
        seed: int = Query(
            0, ge=0, le=2**31, description="seed of the random selection among matching clips"
        ),
    ) -> list[ClipBody]:
        """A random selection of clips, or of those whose label or id contains a text."""
        draw = partial(state.batcher.client.snapshot.draw_clips, label, limit=limit, seed=seed)
        selected = milvus_errors_as_503(draw)
        places = [
            ClipPlace(
                clip_id=row["clip_id"],
                video_uri="",
                start_s=0.0,
                end_s=None,
                label=row["label"] or None,
                split=row["split"] or None,
                attributes=dict(row["attributes"] or {}),
            )
            for row in selected
        ]
        return [ClipBody(**clip_body(place)) for place in places]

    @app.get("/v1/clip", responses=PROBLEMS, tags=["clips"])
    async def clip(clip_id: str = CLIP_ID) -> ClipBody:
        """A clip with its label, attributes and media URLs."""
        return await _clip(state, clip_id)

    @app.get("/v1/clip/media", responses=_MEDIA, tags=["clips"])
    async def media(
        request: Request,
        clip_id: str = CLIP_ID,
        trim: bool = _TRIM,
        range_header: str | None = _RANGE,
    ) -> Response:
        """The video of a clip; range requests are supported."""
        return await _media(state, request, clip_id, trim, range_header)

    @app.get("/v1/clip/strip.jpg", responses=PROBLEMS, tags=["clips"])
    async def strip(request: Request, clip_id: str = CLIP_ID) -> Response:
        """Frames of the clip side by side."""
        return await _strip(state, request, clip_id)

    @app.get("/v1/clip/poster.jpg", responses=PROBLEMS, tags=["clips"])
    async def poster(request: Request, clip_id: str = CLIP_ID) -> Response:
        """The middle frame of the clip, at most 360 pixels wide and high."""
        place = await state.place(clip_id)
        data = await state.media.poster_jpeg(place, client=client_of(request))
        return Response(data, 200, {"cache-control": "private, max-age=3600"}, "image/jpeg")

    @app.get("/v1/collections", responses=PROBLEMS, tags=["clips"])
    def collections() -> dict[str, Any]:
        """The served collection: labels, attributes and their values, splits, names of filters.

        They are those of `num_counted` clips: of a large collection the first ones, until all have been counted (`is_counted`).
        """
        client = state.batcher.client
        snapshot, facts = client.snapshot, client.snapshot.facts
        calibration = client.confidence.calibration
        return {
            "collections": [
                {
                    "name": client.collection.name,
                    "num_clips": milvus_errors_as_503(client.collection.count),
                    "encoder_id": client.card.encoder_id,
                    "bundle_id": client.card.bundle_id,
                    "num_counted": facts.num_rows,
                    "is_counted": facts.is_complete,
                    "labels": facts.labels,
                    "splits": list(facts.splits),
                    "attributes": {name: list(v) for name, v in facts.attributes.items()},
                    "filters": FilterFields(attributes=facts.attributes).names(),
                    "can_compose": client.query_encoder.can_compose,
                    "can_label": state.can_label,
                    "is_exact": snapshot.is_exact,
                    "abstain": None if calibration is None else {"precision": STATED_PRECISION},
                }
            ]
        }


def add_clips_by_path(app: FastAPI, state: State) -> None:
    """Add the routes that name a clip in their path, for ids that can stand there.

    A slash of an id is encoded in a path, so that the path as it was sent tells an id that ends in "/media" from the media of a clip.
    """

    @app.get("/v1/clips/{clip_id:path}/media", responses=_MEDIA, tags=["clips"])
    async def media_by_path(
        request: Request, clip_id: str, trim: bool = _TRIM, range_header: str | None = _RANGE
    ) -> Response:
        """As /v1/clip/media."""
        if not _is_sent_as(request, "/media"):
            return await _by_path(f"{clip_id}/media")
        return await _media(state, request, clip_id, trim, range_header)

    @app.get("/v1/clips/{clip_id:path}/strip.jpg", responses=PROBLEMS, tags=["clips"])
    async def strip_by_path(request: Request, clip_id: str) -> Response:
        """As /v1/clip/strip.jpg."""
        if not _is_sent_as(request, "/strip.jpg"):
            return await _by_path(f"{clip_id}/strip.jpg")
        return await _strip(state, request, clip_id)

    @app.get("/v1/clips/{clip_id:path}", responses=PROBLEMS, tags=["clips"])
    async def clip_by_path(clip_id: str) -> ClipBody:
        """As /v1/clip."""
        return await _clip(state, clip_id)

    async def _by_path(clip_id: str) -> Response:
        body = await _clip(state, clip_id)
        return Response(body.model_dump_json(), media_type="application/json")


async def _clip(state: State, clip_id: str) -> ClipBody:
    return ClipBody(**clip_body(await state.place(clip_id)))


async def _media(
    state: State, request: Request, clip_id: str, trim: bool, range_header: str | None
) -> Response:
    place = await state.place(clip_id)
    if "if-range" in request.headers:  # it names a version of the file, and none has a name here
        range_header = None
    if trim:
        data = await state.media.trimmed_mp4(place, client=client_of(request))
        return _trimmed(data, range_header)
    return await to_thread.run_sync(_whole_video, place, range_header)


async def _strip(state: State, request: Request, clip_id: str) -> Response:
    data = await state.media.strip_jpeg(await state.place(clip_id), client=client_of(request))
    return Response(data, 200, {"cache-control": "private, max-age=3600"}, "image/jpeg")


def client_of(request: Request) -> str:
    """The address that a request comes from."""
    return request.client.host if request.client else ""


def _is_sent_as(request: Request, suffix: str) -> bool:
    return request.scope["raw_path"].endswith(suffix.encode())


def _trimmed(data: bytes, range_header: str | None) -> Response:
    span = parse_range(range_header, len(data))
    first, last = span or (0, len(data) - 1)
    headers = _MEDIA_HEADERS | _range_headers(span, len(data))
    return Response(data[first : last + 1], 206 if span else 200, headers, "video/mp4")


def _whole_video(place: ClipPlace, range_header: str | None) -> Response:
    path = checked_path(place)
    size = path.stat().st_size
    span = parse_range(range_header, size)
    first, last = span or (0, size - 1)
    headers = _MEDIA_HEADERS | _range_headers(span, size)
    headers["content-length"] = str(last - first + 1)
    chunks = read_range(path, first, last)
    return StreamingResponse(chunks, 206 if span else 200, headers, media_type(path))


def _range_headers(span: tuple[int, int] | None, size: int) -> dict[str, str]:
    return {} if span is None else {"content-range": f"bytes {span[0]}-{span[1]}/{size}"}
