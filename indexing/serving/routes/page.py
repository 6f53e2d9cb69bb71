"""Routes that the page needs beyond searching: the clips of one video, and a list of cuts of a basket."""

from functools import partial
from typing import Literal

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from encoders.media.errors import DecodeError
from indexing.handoff.cuts import make_cuts, pick_of_place, without_folders
from indexing.handoff.export import FORMATS
from indexing.search.types import ClipPlace, clip_place_of_row
from indexing.serving.guard.problems import ProblemError
from indexing.serving.guard.work_queue import StopSignal
from indexing.serving.media import checked_path
from indexing.serving.routes.clips import CLIP_ID, PROBLEMS, State, client_of, milvus_errors_as_503
from indexing.serving.schemas import CLIP_EXAMPLE, ClipBody, clip_body
from indexing.serving.uploads import QueryReader
from indexing.store.filter_expression import quoted
from indexing.store.schema import ROW_FIELDS

_MOST_CLIPS = 1000
_MOST_CUTS = 200
_TITLE = "tfcovr"


class CutList(BaseModel):
    """Clips in the order of a reel, and the format of the file."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"clip_ids": [CLIP_EXAMPLE], "format": "edl"}]},
    )

    clip_ids: list[str] = Field(min_length=1, max_length=_MOST_CUTS)
    format: Literal["otio", "edl", "fcpxml", "xml", "vtt", "llc", "json"]


def add_page_routes(app: FastAPI, state: State, reader: QueryReader) -> None:
    """Add the routes to an app."""

    @app.get("/v1/clip/video", responses=PROBLEMS, tags=["clips"])
    async def video(clip_id: str = CLIP_ID) -> list[ClipBody]:
        """The clips of the video that a clip is of, by their start; at most 1,000."""
        place = await state.place(clip_id)
        find = partial(_clips_of_video, state, place.video_uri)
        places = await to_thread.run_sync(milvus_errors_as_503, find)
        return [ClipBody(**clip_body(other)) for other in places]

    schema = {"application/json": {"schema": CutList.model_json_schema()}}
    body = {"requestBody": {"required": True, "content": schema}}

    @app.post("/v1/cuts", responses=PROBLEMS, openapi_extra=body, tags=["clips"])
    async def cuts(request: Request) -> Response:
        """The clips as a file for an editing program; it names videos by their file names, so that the program asks where they lie."""
        body = await reader.read_json(request, CutList)
        places = [await state.place(clip_id) for clip_id in body.clip_ids]
        for place in places:
            checked_path(place)
        key = (body.format, tuple(body.clip_ids))
        write = partial(_cuts, places, body.format)
        data = await state.cut_lists.run(key, write, client=client_of(request))
        named = {"content-disposition": f'attachment; filename="{_TITLE}.{body.format}"'}
        return Response(data, 200, named, "application/octet-stream")


def _clips_of_video(state: State, video_uri: str) -> list[ClipPlace]:
    condition = f"video_uri == {quoted(video_uri)}"
    rows = state.batcher.client.collection.some_rows(
        ROW_FIELDS, condition=condition, limit=_MOST_CLIPS
    )
    return sorted(map(clip_place_of_row, rows), key=lambda place: (place.start_s, place.clip_id))


def _cuts(places: list[ClipPlace], suffix: str, _stop: StopSignal) -> bytes:
    try:
        picks = [
            pick_of_place(place, name=f"{rank:03} {place.label or place.clip_id}")
            for rank, place in enumerate(places, start=1)
        ]
        text = FORMATS[f".{suffix}"](without_folders(make_cuts(picks)), _TITLE)
    except DecodeError as error:
        raise ProblemError(422, f"a video of the basket cannot be read: {error.reason}") from error
    except ValueError as error:
        message = str(error)
        for place in places:  # clients do not learn the folders of videos
            path = checked_path(place)
            message = message.replace(str(path), path.name)
        raise ProblemError(422, message) from error
    return text.encode()
