"""Routes by which the page labels: clicks, what to ask next with suggestions, groups of clips without a label, export.

They are there only where the service was given a folder for labels. A click is answered when it is on the disk.
"""

from functools import partial
from itertools import islice
from typing import Literal

from anyio import to_thread
from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from encoders.media.errors import DecodeError
from indexing.labelling.clicks import MAX_CLIP_ID, MAX_LABEL, Click, ClickKind
from indexing.labelling.desk import LabelDesk
from indexing.labelling.export import FORMATS, labels_text
from indexing.labelling.journal import JournalError
from indexing.search.types import ClipPlace
from indexing.serving.guard.problems import ProblemError
from indexing.serving.guard.work_queue import StopSignal
from indexing.serving.routes.clips import (
    CLIP_ID,
    PROBLEMS,
    State,
    client_of,
    milvus_errors_as_503,
)
from indexing.serving.schemas import ClipBody, clip_body
from indexing.serving.uploads import QueryReader

_MAX_CLICKS = 64
_NUM_SUGGESTIONS = 9
_NUM_SHOWN = 6
_MAX_EXPORTED = 50_000


class ClickBody(BaseModel):
    """One answer; the client chooses the id, and may send the same click again."""

    model_config = ConfigDict(extra="forbid")

    click_id: str = Field(min_length=8, max_length=64)
    kind: ClickKind
    clip_id: str = Field(min_length=1, max_length=MAX_CLIP_ID)
    label: str = Field(default="", max_length=MAX_LABEL)
    start_s: float | None = None
    end_s: float | None = None
    undoes: str = Field(default="", max_length=64, description="id of an earlier click of the clip")


class ClickList(BaseModel):
    """Clicks in the order in which they were made; all of them are stored, or none."""

    model_config = ConfigDict(extra="forbid")

    clicks: list[ClickBody] = Field(min_length=1, max_length=_MAX_CLICKS)


class HeadsBody(BaseModel):
    """The last refit."""

    num_labelled: int
    num_clicks: int
    seconds: float


class LabelBody(BaseModel):
    """A label."""

    label: str
    num_clicked: int
    attributes: dict[str, str]


class LabelsBody(BaseModel):
    """How far labelling is."""

    num_clicks: int
    num_labelled: int = Field(description="clips that clicks have given a label")
    labels: list[LabelBody]
    heads: HeadsBody | None = Field(description="null = none has been fitted yet")


class SuggestionBody(BaseModel):
    """A label that a clip may have, by the heads."""

    label: str
    probability: float


class AskedBody(ClipBody):
    """A clip to label, with its label and span as clicks have left them."""

    suggestions: list[SuggestionBody]


class GroupBody(BaseModel):
    """Clips that look alike and have no label."""

    num_clips: int
    clips: list[AskedBody]


class StoredBody(BaseModel):
    """What was stored."""

    stored: list[str]
    num_labelled: int


def add_label_routes(app: FastAPI, state: State, reader: QueryReader) -> None:
    """Add the routes to an app."""
    schema = {"application/json": {"schema": ClickList.model_json_schema()}}
    body = {"requestBody": {"required": True, "content": schema}}

    @app.get("/v1/labels", responses=PROBLEMS, tags=["labels"])
    async def labels() -> LabelsBody:
        """The labels that are known, and how many clips have been given one."""
        return await to_thread.run_sync(milvus_errors_as_503, partial(_labels, state.desk))

    @app.post("/v1/labels/clicks", responses=PROBLEMS, openapi_extra=body, tags=["labels"])
    async def clicks(request: Request) -> StoredBody:
        """Store clicks; the answer comes when they are on the disk."""
        given = await reader.read_json(request, ClickList)
        store = partial(_store, state.desk, given)
        return await to_thread.run_sync(milvus_errors_as_503, store)

    @app.get("/v1/labels/next", responses=PROBLEMS, tags=["labels"])
    async def next_clips(request: Request, limit: int = Query(8, ge=1, le=32)) -> list[AskedBody]:
        """The most useful clips to ask about, the best first, with suggestions."""

        def ask(_stop: StopSignal) -> list[AskedBody]:
            places = milvus_errors_as_503(partial(state.desk.next_clips, limit))
            return [_asked(state.desk, place) for place in places]

        return await state.label_work.run(("next", limit), ask, client=client_of(request))

    @app.get("/v1/labels/groups", responses=PROBLEMS, tags=["labels"])
    async def groups(request: Request, limit: int = Query(12, ge=1, le=12)) -> list[GroupBody]:
        """Groups of clips without a label that look alike, the most useful first."""

        def ask(_stop: StopSignal) -> list[GroupBody]:
            found = milvus_errors_as_503(partial(state.desk.groups, limit, _NUM_SHOWN))
            return [
                GroupBody(num_clips=count, clips=[_asked(state.desk, place) for place in places])
                for count, places in found
            ]

        return await state.label_work.run(("groups", limit), ask, client=client_of(request))

    @app.get("/v1/labels/clip", responses=PROBLEMS, tags=["labels"])
    async def clip(clip_id: str = CLIP_ID) -> AskedBody:
        """A clip as clicks have left it, with suggestions."""
        place = state.desk.current(await state.place(clip_id))
        return await to_thread.run_sync(milvus_errors_as_503, partial(_asked, state.desk, place))

    @app.get("/v1/labels/export", responses=PROBLEMS, tags=["labels"])
    async def export(
        request: Request, kind: Literal["csv", "label-studio", "osl"] = Query("csv", alias="format")
    ) -> Response:
        """All labelled clips as a file; videos are named relative to the folder that they share."""
        write = partial(_export, state.desk, kind)
        data = await state.label_work.run(("export", kind), write, client=client_of(request))
        named = {"content-disposition": f'attachment; filename="labels{FORMATS[kind][0]}"'}
        return Response(data, 200, named, "application/octet-stream")


def _labels(desk: LabelDesk) -> LabelsBody:
    counts, found = desk.labels(), desk.last_round
    attributes = desk.client.snapshot.facts.label_attributes
    return LabelsBody(
        num_clicks=len(desk.journal.clicks),
        num_labelled=sum(counts.values()),
        labels=[
            LabelBody(label=label, num_clicked=count, attributes=dict(attributes.get(label, {})))
            for label, count in counts.items()
        ],
        heads=None
        if found is None
        else HeadsBody(
            num_labelled=found.num_labelled, num_clicks=found.num_clicks, seconds=found.seconds
        ),
    )


def _store(desk: LabelDesk, given: ClickList) -> StoredBody:
    try:
        clicks = [Click(**click.model_dump()) for click in given.clicks]
        desk.store(clicks)
    except ValueError as error:
        raise ProblemError(422, str(error)) from error
    except JournalError as error:
        raise ProblemError(503, "the labels cannot be stored; see the log of the service") from error  # fmt: skip
    counts = desk.labels()
    return StoredBody(stored=[c.click_id for c in clicks], num_labelled=sum(counts.values()))


def _asked(desk: LabelDesk, place: ClipPlace) -> AskedBody:
    suggested = desk.suggestions(place.clip_id, _NUM_SUGGESTIONS)
    return AskedBody(
        **clip_body(place),
        suggestions=[
            SuggestionBody(label=one.label, probability=one.probability) for one in suggested
        ],
    )


def _export(desk: LabelDesk, kind: str, _stop: StopSignal) -> bytes:
    places = milvus_errors_as_503(lambda: list(islice(desk.labelled(), _MAX_EXPORTED + 1)))
    if len(places) > _MAX_EXPORTED:
        raise ProblemError(
            422, f"more than {_MAX_EXPORTED} clips have a label; export them with `tfcovr labels`"
        )
    try:
        return labels_text(places, kind).encode()
    except DecodeError as error:
        raise ProblemError(422, f"a video cannot be read: {error.reason}") from error
    except ValueError as error:
        raise ProblemError(422, str(error).replace(str(desk.journal.folder), "")) from error
