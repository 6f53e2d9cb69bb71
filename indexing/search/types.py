"""Types of search: the composed query, hits with the explanation of their scores, and results."""

import dataclasses
import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy as np

from encoders.clips import is_storable
from encoders.decoding.source import VideoClock
from encoders.files import is_file
from encoders.media.container import VIDEO_SUFFIXES, MediaLimits
from encoders.media.errors import DecodeError
from indexing.store.client import QUERYING, CallOptions
from indexing.store.schema import TO_THE_END

MAX_LIMIT = 1000
MAX_EDITS = 8
MAX_TEXT = 1000
MAX_SOURCE = 64
DECODE_DEADLINE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipPlace:
    """A clip and the span of its video; `end_s` None = to the end of the video."""

    clip_id: str
    video_uri: str
    start_s: float
    end_s: float | None
    label: str | None = None
    split: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    def span(self) -> str:
        """The span as text: "1.00-2.50 s"."""
        return f"{self.start_s:.2f}-{'end' if self.end_s is None else f'{self.end_s:.2f}'} s"


PLACE_FIELDS = ("clip_id", "video_uri", "start_s", "end_s", "label", "split")

Verdict = Literal["as asked", "kept", "changed though not asked", "not as asked"]
Mismatch = Literal["", "text", "clip", "score", "filters"]
_MISMATCHES: dict[Mismatch, str] = {
    "text": "the text asks for nothing that the edits of training are about",
    "clip": "the query clip is unlike the videos that the encoder was trained on",
    "score": "no clip is near enough to what was asked",
    "filters": "no clip passes the filters",
}
MIN_SURE = 0.7
"""A reading of the query clip below this probability is in doubt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """One attribute of a query: what the clip shows, and what its edits ask for."""

    name: str
    value: str
    """Of the query clip; "" where the attribute is absent."""
    probability: float
    asked: str | None = None
    """The value that the edits ask for; None where they leave the attribute alone."""
    is_given: bool = False
    """Whether the user gave the value, with `source`."""
    is_factor: bool = False
    """Whether `source` can correct the value."""

    @property
    def is_doubtful(self) -> bool:
        """Whether the user should confirm or correct the value."""
        return self.probability < MIN_SURE and not self.is_given


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One attribute of the query clip (before) and of a hit (after), as predicted by the classification head."""

    name: str
    before: str
    after: str
    probability: float
    """Predicted probability of `after` for the hit."""
    asked: str | None = None
    """The value that the edits ask for; None where they leave the attribute alone."""

    @property
    def verdict(self) -> Verdict:
        """How the hit stands to what was asked of this attribute."""
        if self.asked is not None:
            return "as asked" if self.after == self.asked else "not as asked"
        return "changed though not asked" if self.is_change else "kept"

    @property
    def is_change(self) -> bool:
        """Whether the hit differs from the query clip."""
        return self.before != self.after

    def text(self) -> str:
        """The change as text: "twists 1.5 -> 2.5 (0.81)"."""
        arrow = f"{self.before} -> {self.after}" if self.is_change else self.after
        return f"{self.name} {arrow} ({self.probability:.2f})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit(ClipPlace):
    """One answer; `score` is the cosine with the composed query plus the terms of `keep` and `exclude`."""

    score: float
    probability: float | None = None
    """Calibrated probability that the hit shows what was asked; None for a bundle without a calibration."""
    from_clip: float = 0.0
    """Part of the cosine that comes from the query clip."""
    from_edit: float = 0.0
    """Part of the cosine that comes from the edits."""
    predicted: tuple[Change, ...] = ()
    """Attributes of the hit compared with the query clip; empty for a bundle without a classification head."""
    num_grouped: int = 0
    """Number of other clips that were grouped with this one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """The resolved query clip (clip_id "" for a file) and the answers, best first."""

    query: ClipPlace
    edit_text: str
    """All edits, joined into one text."""
    hits: tuple[Hit, ...]
    backend_used: str
    encoder_ids: tuple[str, ...] = ()
    """The encoders that answered: two while one takes the place of the other, and both were asked."""
    is_exact: bool = True
    mismatch: Mismatch | None = None
    """Why nothing matches, "" where something does; None for a bundle without a calibration."""
    hint: str = ""
    """What a filter names that no clip has, where no clip passes."""
    matched_by: Literal["", "attributes", "vector"] = ""
    """How `keep` and `exclude` were interpreted: as attribute values, or as directions of the vector space."""
    reading: tuple[Reading, ...] = ()
    """The attributes of the query clip and what the edits ask of them; empty without a clip, or where nothing reads attributes."""
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    """Milliseconds by stage (decode, text, fuse, milvus, rest) of the call, which may hold several queries."""

    @property
    def has_match(self) -> bool | None:
        """Whether something matches; None for a bundle without a calibration."""
        return None if self.mismatch is None else not self.mismatch

    def mismatch_text(self) -> str:
        """Why nothing matches, in words; "" where something does or nobody can tell."""
        reason = _MISMATCHES.get(self.mismatch or "", "")
        return f"{reason}: {self.hint}" if reason and self.hint else reason

    def to_pandas(self) -> Any:
        """The hits as a DataFrame, best first, one column `attribute.NAME` per attribute; `write_clips` takes it."""
        import pandas as pd

        rows = [
            {
                "rank": rank,
                "score": hit.score,
                "probability": hit.probability,
                **{name: getattr(hit, name) for name in PLACE_FIELDS},
                **{f"attribute.{name}": value for name, value in hit.attributes.items()},
            }
            for rank, hit in enumerate(self.hits, start=1)
        ]
        first = ["rank", "score", "probability", *PLACE_FIELDS]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=pd.Index(first))

    def _repr_html_(self) -> str:
        """The query and its answers as film strips, for notebooks."""
        from indexing.search.film_strip import film_strip_html

        return film_strip_html(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchOptions:
    """Options of a search client."""

    backend: Literal["onnx", "torch"] = "onnx"
    num_threads: int | None = None
    limits: MediaLimits = field(default_factory=MediaLimits)
    """Limits of query clips that are files or bytes."""
    decode_deadline_s: float = DECODE_DEADLINE_S
    moved_videos: tuple[str, str] | None = None
    """(what paths of videos in the collection begin with, what stands there now), of an archive that was moved."""
    files: bool = True
    """Whether a query clip that is not a clip id may name a file of this machine."""
    call_options: CallOptions = QUERYING
    """Timeout, retries and consistency of calls to Milvus; `ef` applies to an HNSW index."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadedVideo:
    """A video of a client in a temporary file, which whoever made it deletes; no answer names the file."""

    path: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class ComposedQuery:
    """A query clip and how the answers should differ from it.

    `clip` is a clip id of the archive, FILE or FILE@START-END, the bytes of a video or a file that holds them, an earlier hit, or ""
    for a query by text alone.
    """

    clip: str | bytes | UploadedVideo | ClipPlace = ""
    edits: tuple[str, ...] = ()
    """Edit texts, applied one after the other."""
    keep: str = ""
    """An attribute of the query clip ("position") or a text that the answers should show."""
    exclude: str = ""
    """A text that the answers should not show."""
    strength: float = 1.0
    """Strength of the edits: 0 = the clip alone, 1 = the composed query, above 1 = extrapolated."""
    source: Mapping[str, str] = field(default_factory=dict)
    """Attributes of the query clip as the user knows them ({"position": "pike"}), in place of what the encoder reads."""
    filters: Mapping[str, Any] = field(default_factory=dict)
    limit: int = 10
    exact: bool = False
    """Whether to search exactly, also where the collection has an approximate index."""
    explain: bool = True
    """Whether to split each score into the parts of the clip and of the edits and to list changed attributes. Milvus then has to read
    the vectors of the answers."""
    group_by_video: bool = False
    """Whether to answer with at most one clip per video."""
    group_above: float = 1.0
    """Clips whose vectors have a cosine above this are grouped into one answer; 1 = off."""
    liked: tuple[str, ...] = ()
    """Relevance feedback: ids of clips to which the query moves closer."""
    disliked: tuple[str, ...] = ()
    """Relevance feedback: ids of clips from which the query moves away."""

    def __post_init__(self) -> None:
        self._take_types()
        if not self.clip and not self.edits:
            raise ValueError("a query needs a clip, an edit text or both; both are empty")
        _check_number("limit", self.limit, 1, MAX_LIMIT)
        if self.limit != int(self.limit):
            raise ValueError(f"limit is {self.limit}; it must be a whole number")
        object.__setattr__(self, "limit", int(self.limit))  # of NumPy, too
        _check_number("strength", self.strength, 0, 4)
        _check_number("group_above", self.group_above, 0, 1)
        _check_number("number of edits", len(self.edits), 0, MAX_EDITS)
        _check_number("number of liked and disliked clips", len(self.liked + self.disliked), 0, 100)
        for name in ("keep", "exclude"):
            _check_text(name, getattr(self, name))
        for clip in (*self.liked, *self.disliked, self.clip if isinstance(self.clip, str) else ""):
            _check_text("clip", clip, max_length=4096)
        _check_number("number of source attributes", len(self.source), 0, MAX_SOURCE)
        if self.source and not self.clip:
            raise ValueError(f"source is {dict(self.source)}; it must be empty without a clip")
        for text in (*self.source, *self.source.values()):
            _check_text("source", text)
        for edit in self.edits:
            _check_text("edit", edit)
            if not edit.strip():
                raise ValueError("an edit is empty; say what should be different")

    def _take_types(self) -> None:
        """A text or any sequence of texts as a tuple, None as nothing; TypeError names a value of another type."""
        for name in ("edits", "liked", "disliked"):
            given = getattr(self, name) or ()
            object.__setattr__(self, name, (given,) if isinstance(given, str) else tuple(given))
        object.__setattr__(self, "clip", "" if self.clip is None else self.clip)
        if not isinstance(self.clip, str | bytes | UploadedVideo | ClipPlace):
            raise TypeError(
                f"clip is a {type(self.clip).__name__}; it must be a clip id, FILE or FILE@START-END, the bytes of a video, or a hit"
            )
        for name in ("source", "filters"):
            given = getattr(self, name)
            if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
                raise TypeError(f"{name} is {given!r}; it must be a mapping from names to values")

    @property
    def needs_vectors(self) -> bool:
        """Whether the vectors of the answers are needed, not only their cosines."""
        return self.explain or bool(self.keep or self.exclude) or self.group_above < 1

    def then(self, edit: str) -> "ComposedQuery":
        """The same query, edited once more."""
        return dataclasses.replace(self, edits=(*self.edits, edit))

    def undo(self) -> "ComposedQuery":
        """The query before its last edit; ValueError where it has no edit."""
        if not self.edits:
            raise ValueError("there is no edit to undo")
        return dataclasses.replace(self, edits=self.edits[:-1])


def _check_number(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r}; it must be a number from {low} to {high}")
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{name} is {value}; it must be {low} to {high}")


def _check_text(name: str, text: str, max_length: int = MAX_TEXT) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{name} is {text!r}; it must be a text")
    if len(text) > max_length:
        raise ValueError(f"{name} has {len(text)} characters; at most {max_length} are allowed")
    if not is_storable(text):
        raise ValueError(
            f"{name} is {text[:64]!r}; it must not contain surrogates or null characters"
        )


_QUERY_FIELDS = tuple(field.name for field in dataclasses.fields(ComposedQuery))


def query_of(
    clip: str | bytes | UploadedVideo | ClipPlace, edit: str | Sequence[str], how: Mapping[str, Any]
) -> ComposedQuery:
    """The query of `SearchClient.search`, where `edits` may stand for `edit`; TypeError names an option that does not exist."""
    options = dict(how)
    edits = options.pop("edits", ())
    if edit and edits:
        raise TypeError("edit and edits are the same; give one of them")
    for name in options:
        if name not in _QUERY_FIELDS:
            near = difflib.get_close_matches(name, _QUERY_FIELDS, n=1)
            others = ", ".join(_QUERY_FIELDS)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {others}"
            raise TypeError(f"search has no option {name!r}; {hint}")
    given: Any = edit or edits  # texts of any kind, which the query sorts out
    return ComposedQuery(clip=clip, edits=given, **options)


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A clip that Milvus returned, before ranking."""

    place: ClipPlace
    vector_D: np.ndarray
    """The unit vector of the clip; empty where the query does not need it."""
    vector_length: float = 1.0
    """The length that the encoder gave the vector; 1 = unknown."""
    cosine: float = 0.0
    """Cosine with the vector that was searched for, as computed by Milvus."""


_LIKE_A_SPAN = re.compile(r"[\d:;.,hms ]*-[\d:;.,hms ]*", re.ASCII | re.IGNORECASE)


def parse_file(text: str) -> ClipPlace | None:
    """Parse FILE, FILE@START-END, FILE@START- or FILE@-END, times as VideoClock reads them; None where the file does not exist.

    ValueError for a time that is none, and for a file that does not exist though its name ends as that of a video.
    """
    path, start_s, end_s = Path(text), 0.0, None
    file, _, span = text.rpartition("@")
    if file and not is_file(path) and (is_file(Path(file)) or _LIKE_A_SPAN.fullmatch(span)):
        path = Path(file)
        if is_file(path):
            start_s, end_s = _parse_span(span, path)
    if not is_file(path):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            raise ValueError(f"file {str(path)!r} does not exist")
        return None
    return ClipPlace(clip_id="", video_uri=str(path.resolve()), start_s=start_s, end_s=end_s)


def _parse_span(span: str, path: Path) -> tuple[float, float | None]:
    start, is_span, end = span.partition("-")
    if not is_span or not (start.strip() or end.strip()):
        raise ValueError(f"span {span!r} must be START-END, START- or -END")
    try:
        with VideoClock() as clock:
            start_s = clock.seconds(start, path) if start.strip() else 0.0
            end_s = clock.seconds(end, path) if end.strip() else None
    except DecodeError as error:  # a time code is counted in the frames of the video
        raise ValueError(f"span {span!r} of {path}: {error}") from error
    if end_s is not None and end_s <= start_s:
        raise ValueError(f"span {span!r} ends at {end_s} s, which is not after {start_s} s")
    return start_s, end_s


def clip_place_of_row(row: Mapping[str, Any]) -> ClipPlace:
    """The clip of a row of the collection; the sentinel of an open end becomes None."""
    return ClipPlace(
        clip_id=row["clip_id"],
        video_uri=row["video_uri"],
        start_s=row["start_s"],
        end_s=None if row["end_s"] == TO_THE_END else row["end_s"],
        label=row["label"] or None,
        split=row["split"] or None,
        attributes=dict(row["attributes"] or {}),
    )
