"""Routes of clips, their media and the collection, and the state that all routes share."""

import random
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Header, Query
from fastapi.responses import Response, StreamingResponse

from indexing.search.client import SearchClient
from indexing.search.types import ClipPlace
from indexing.serving.batching import BatcherConfig, QueryBatcher
from indexing.serving.media import Media, checked_path, media_type, parse_range, read_range
from indexing.serving.problems import ProblemError
from indexing.serving.schemas import ClipBody, Problem, clip_body
from indexing.store.client import MilvusBusyError

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "content": {"application/problem+json": {}}}
    for status in (400, 401, 404, 413, 422, 429, 503)
}


class State:
    """State of the service: the batcher once it has started, and the media."""

    def __init__(self, open_client: Callable[[], SearchClient], config: BatcherConfig) -> None:
        self._open_client, self._config = open_client, config
        self.media = Media()
        self._batcher: QueryBatcher | None = None

    @property
    def batcher(self) -> QueryBatcher:
        """The batcher; 503 while the service starts."""
        if self._batcher is None:
            raise ProblemError(503, "the service is starting", {"retry-after": "2"})
        return self._batcher

    def start(self) -> None:
        """Open the client and warm it up."""
        batcher = QueryBatcher(self._open_client(), self._config)
        batcher.warm_up()
        self._batcher = batcher

    def stop(self) -> None:
        """Close the media and the client."""
        self.media.close()
        if self._batcher is not None:
            self._batcher.close()
            self._batcher = None

    def place(self, clip_id: str) -> ClipPlace:
        """A clip of the collection, or 404."""
        place = milvus_errors_as_503(lambda: self.batcher.client.place_of(clip_id))
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
        rows = milvus_errors_as_503(lambda: state.batcher.client.snapshot.rows)
        needle = label.lower()
        matching = [row for row in rows if needle in f"{row['label']} {row['clip_id']}".lower()]
        selected = random.Random(seed).sample(matching, min(limit, len(matching)))
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

    @app.get("/v1/clips/{clip_id:path}/media", responses=PROBLEMS, tags=["clips"])
    def media(
        clip_id: str,
        trim: bool = Query(False, description="exactly the clip's span, as an MP4"),
        range_header: str | None = Header(None, alias="range", max_length=256),
    ) -> Response:
        """The video of a clip; range requests are supported."""
        place = state.place(clip_id)
        headers = {"accept-ranges": "bytes", "cache-control": "private, max-age=3600"}
        if trim:
            data = state.media.trimmed_mp4(place)
            span = parse_range(range_header, len(data))
            first, last = span or (0, len(data) - 1)
            headers |= _range_headers(span, len(data))
            return Response(data[first : last + 1], 206 if span else 200, headers, "video/mp4")
        path = checked_path(place)
        size = path.stat().st_size
        span = parse_range(range_header, size)
        first, last = span or (0, size - 1)
        headers |= _range_headers(span, size) | {"content-length": str(last - first + 1)}
        chunks = read_range(path, first, last)
        return StreamingResponse(chunks, 206 if span else 200, headers, media_type(path))

    @app.get("/v1/clips/{clip_id:path}/strip.jpg", responses=PROBLEMS, tags=["clips"])
    def strip(clip_id: str) -> Response:
        """Frames of the clip side by side."""
        data = state.media.strip_jpeg(state.place(clip_id))
        return Response(data, 200, {"cache-control": "private, max-age=3600"}, "image/jpeg")

    @app.get("/v1/clips/{clip_id:path}", responses=PROBLEMS, tags=["clips"])
    def clip(clip_id: str) -> ClipBody:
        """A clip with its label, attributes and media URLs."""
        return ClipBody(**clip_body(state.place(clip_id)))

    @app.get("/v1/collections", responses=PROBLEMS, tags=["clips"])
    def collections() -> dict[str, Any]:
        """The served collection: labels, attributes and their values, splits, names of filters."""
        client = state.batcher.client
        snapshot = client.snapshot
        threshold = client.options.threshold
        return {
            "collections": [
                {
                    "name": client.collection.name,
                    "num_clips": milvus_errors_as_503(client.collection.count),
                    "encoder_id": client.card.encoder_id,
                    "bundle_id": client.card.bundle_id,
                    "labels": snapshot.labels,
                    "splits": list(snapshot.splits),
                    "attributes": {
                        name: list(values) for name, values in snapshot.fields.attributes.items()
                    },
                    "filters": snapshot.fields.names(),
                    "can_compose": client.query_encoder.can_compose,
                    "is_exact": snapshot.is_exact,
                    "abstain": None
                    if threshold is None
                    else {"precision": threshold.precision, "recall": threshold.recall},
                }
            ]
        }


def _range_headers(span: tuple[int, int] | None, size: int) -> dict[str, str]:
    return {} if span is None else {"content-range": f"bytes {span[0]}-{span[1]}/{size}"}
