"""JSON schemas of the service's requests and answers."""

import math
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, field_validator

from indexing.search.filters import MAX_FILTERS, MAX_VALUES, filter_json_schemas
from indexing.search.filters import MAX_TEXT as MAX_FILTER_TEXT
from indexing.search.types import (
    MAX_EDITS,
    MAX_SOURCE,
    MAX_TEXT,
    ClipPlace,
    ComposedQuery,
    Hit,
    Mismatch,
    SearchResult,
    UploadedVideo,
    Verdict,
)

_Number = int | float
_Text = Annotated[str, Field(max_length=MAX_FILTER_TEXT)]
_FilterValue = (
    _Text
    | _Number
    | Annotated[list[_Text | _Number | None], Field(max_length=MAX_VALUES, fail_fast=True)]
)
CLIP_EXAMPLE = "test-103b-0000"
_EXAMPLE = {
    "clip": CLIP_EXAMPLE,
    "edits": ["with one more twist"],
    "exclude": "pike",
    "filters": {"split": "test", "duration_s": [1, 6]},
    "limit": 6,
}


def _describe_filters(schema: dict[str, Any]) -> None:
    """Called when a schema is generated, so that it has the filters that are registered then; any other name is an attribute."""
    schema["properties"] = filter_json_schemas()


class SearchRequest(BaseModel):
    """A composed query."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    clip: str = Field(default="", max_length=1024, description="clip id; empty = by text alone")
    clip_url: str = Field(default="", max_length=2048, description="video on an allowed host")
    edits: list[str] = Field(default=[], max_length=MAX_EDITS, description="one after the other")
    keep: str = Field(default="", max_length=MAX_TEXT, description="attribute or text to keep")
    exclude: str = Field(
        default="", max_length=MAX_TEXT, description="text that answers should not show"
    )
    strength: float = Field(default=1.0, ge=0, le=4)
    source: dict[str, str] = Field(
        default={},
        max_length=MAX_SOURCE,
        description="attributes of the query clip in place of what the encoder reads",
        examples=[{"position": "pike"}],
    )
    filters: dict[str, _FilterValue] = Field(
        default={},
        max_length=MAX_FILTERS,
        description="by name; an attribute of the clips is a filter too",
        json_schema_extra=_describe_filters,
    )
    limit: int = Field(default=10, ge=1, le=100)
    exact: bool = False
    explain: bool = Field(default=True, description="say why: parts of the score, attributes")
    group_by_video: bool = False
    group_above: float = Field(default=1.0, ge=0, le=1)
    liked: list[str] = Field(default=[], max_length=50)
    disliked: list[str] = Field(default=[], max_length=50)

    @field_validator("edits", "liked", "disliked")
    @classmethod
    def _short(cls, texts: list[str]) -> list[str]:
        if any(not 0 < len(text.strip()) <= MAX_TEXT or len(text) > MAX_TEXT for text in texts):
            raise ValueError(f"texts must have 1 to {MAX_TEXT} characters")
        return texts

    @field_validator("strength", "group_above")
    @classmethod
    def _finite(cls, value: float) -> float:
        if not math.isfinite(value):
            raise ValueError("must be a finite number")
        return value

    def query(self, upload: UploadedVideo | None = None) -> ComposedQuery:
        """The query for SearchClient; `upload`, which also holds the video behind `clip_url`, takes precedence over the clip id."""
        values: dict[str, Any] = self.model_dump(exclude={"clip_url"})
        if self.clip and self.clip_url:
            raise ValueError("clip and clip_url exclude each other")
        for name in ("edits", "liked", "disliked"):
            values[name] = tuple(values[name])
        values["clip"] = self.clip if upload is None else upload
        return ComposedQuery(**values)


class ClipBody(BaseModel):
    """A clip of the collection, and the URLs of its media."""

    clip_id: str
    label: str | None
    split: str | None
    start_s: float | None = Field(description="null = the row has no valid time")
    end_s: float | None = Field(description="null = to the end of the video")
    attributes: dict[str, str]
    media_url: str | None = Field(description="the whole video; range requests")
    trimmed_url: str | None = Field(description="exactly the span")
    strip_url: str | None
    poster_url: str | None = Field(description="the middle frame")


class ChangeBody(BaseModel):
    """An attribute before and after."""

    name: str
    before: str
    after: str
    probability: float
    is_change: bool
    asked: str | None = Field(description="value that the edits ask for; null = left alone")
    verdict: Verdict
    text: str


class ReadingBody(BaseModel):
    """An attribute of the query clip; `source` of the next request corrects it."""

    name: str
    value: str
    probability: float
    asked: str | None
    is_given: bool
    is_doubtful: bool
    is_factor: bool = Field(description="whether `source` can correct it")


class HitBody(ClipBody):
    """An answer."""

    score: float
    probability: float | None = Field(description="that the hit shows what was asked, calibrated")
    from_clip: float
    from_edit: float
    predicted: list[ChangeBody]
    num_grouped: int


class SearchResponse(BaseModel):
    """Answers, best first."""

    request_id: str
    query: ClipBody
    edit_text: str
    hits: list[HitBody]
    has_match: bool | None = Field(description="null = the bundle has no calibration")
    mismatch: Mismatch | None = Field(description="why nothing matches")
    mismatch_text: str = Field(description="the same in words; empty where something matches")
    matched_by: Literal["", "attributes", "vector"]
    backend_used: str
    encoder_ids: list[str] = Field(description="encoders that answered; two while one is changed")
    is_exact: bool
    reading: list[ReadingBody]
    timings_ms: dict[str, float]


class Problem(BaseModel):
    """An error, as in RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str


def clip_body(place: ClipPlace) -> dict[str, Any]:
    """The fields of ClipBody; an uploaded clip has no URLs."""
    # In a query string, an id may hold any text: also "/media", "..", and line ends.
    query = f"?id={quote(place.clip_id, safe='')}" if place.clip_id else None
    return {
        "clip_id": place.clip_id,
        "label": place.label,
        "split": place.split,
        "start_s": _finite_or_none(place.start_s),
        "end_s": _finite_or_none(place.end_s),
        "attributes": dict(place.attributes),
        "media_url": query and f"/v1/clip/media{query}",
        "trimmed_url": query and f"/v1/clip/media{query}&trim=true",
        "strip_url": query and f"/v1/clip/strip.jpg{query}",
        "poster_url": query and f"/v1/clip/poster.jpg{query}",
    }


def _finite_or_none(seconds: float | None) -> float | None:
    """JSON has no infinity and no NaN, which a row may have."""
    return seconds if seconds is not None and math.isfinite(seconds) else None


def hit_body(hit: Hit) -> HitBody:
    """A hit as JSON."""
    predicted = [
        ChangeBody(
            name=change.name,
            before=change.before,
            after=change.after,
            probability=change.probability,
            is_change=change.is_change,
            asked=change.asked,
            verdict=change.verdict,
            text=change.text(),
        )
        for change in hit.predicted
    ]
    return HitBody(
        **clip_body(hit),
        score=hit.score,
        probability=hit.probability,
        from_clip=hit.from_clip,
        from_edit=hit.from_edit,
        predicted=predicted,
        num_grouped=hit.num_grouped,
    )


def search_response(result: SearchResult, request_id: str) -> SearchResponse:
    """The whole answer as JSON."""
    return SearchResponse(
        request_id=request_id,
        query=ClipBody(**clip_body(result.query)),
        edit_text=result.edit_text,
        hits=[hit_body(hit) for hit in result.hits],
        has_match=result.has_match,
        mismatch=result.mismatch,
        mismatch_text=result.mismatch_text(),
        matched_by=result.matched_by,
        backend_used=result.backend_used,
        encoder_ids=list(result.encoder_ids),
        is_exact=result.is_exact,
        reading=[
            ReadingBody.model_validate(reading, from_attributes=True) for reading in result.reading
        ],
        timings_ms=dict(result.timings_ms),
    )
