"""Clicks of a person who labels, and what they come to: the state of each clip.

A click is never changed or removed. An undo is a click of its own; the undo of an undo brings the first one back.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

from encoders.clips import is_storable
from encoders.files import from_dict

ClickKind = Literal["label", "not", "span", "skip", "undo"]
MAX_LABEL, MAX_CLIP_ID, MAX_URI = 256, 1024, 4096
"""Maximum number of characters."""
_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
_MAX_SECONDS = 1e6
_LEAST_S = 0.001
_SAME_S = 0.0005
"""No frame is shorter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Click:
    """One answer. Whoever clicks chooses `click_id`: the same click sent twice is one."""

    click_id: str
    kind: ClickKind
    clip_id: str
    label: str = ""
    """Of `label` (empty = the clip has no label any more) and `not` (the clip does not show it)."""
    start_s: float | None = None
    """Of `span`: seconds after the first frame of the video."""
    end_s: float | None = None
    """Of `span`."""
    undoes: str = ""
    """Of `undo`: an earlier click of the same clip."""

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.click_id):
            raise ValueError(f"click_id is {self.click_id[:80]!r}; it must be 8 to 64 letters, digits, _ or -")  # fmt: skip
        if self.kind not in get_args(ClickKind):
            raise ValueError(f"kind is {self.kind!r}; choose one of {', '.join(get_args(ClickKind))}")  # fmt: skip
        for name, limit in (("clip_id", MAX_CLIP_ID), ("label", MAX_LABEL)):
            text = getattr(self, name)
            if len(text) > limit or not is_storable(text):
                raise ValueError(f"{name} must have at most {limit} characters, without surrogates and null characters")  # fmt: skip
        if not self.clip_id or self.label != self.label.strip() or len(self.label.splitlines()) > 1:
            raise ValueError(f"clip_id {self.clip_id!r} must not be empty, and label {self.label!r} must be one line without space around it")  # fmt: skip
        needs = {"label": self.kind == "not" or (self.kind == "label" and bool(self.label)), "undoes": self.kind == "undo"}  # fmt: skip
        for name, is_needed in needs.items():
            if bool(getattr(self, name)) != is_needed:
                raise ValueError(f"{name} is {getattr(self, name)!r}, which a click of kind {self.kind!r} cannot have")  # fmt: skip
        is_span = (
            self.start_s is not None
            and self.end_s is not None
            and 0 <= self.start_s <= self.end_s - _LEAST_S
            and self.end_s <= _MAX_SECONDS
        )
        if (self.kind == "span") != is_span or (self.kind != "span" and (self.start_s, self.end_s) != (None, None)):  # fmt: skip
            raise ValueError(f"start_s is {self.start_s} and end_s {self.end_s}; a span has 0 <= start and lasts at least {_LEAST_S} s, another click neither")  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A click with where its clip lay at that time, so that the journal can be read without the collection."""

    click: Click
    video_uri: str
    start_s: float
    end_s: float | None
    """None = to the end of the video."""
    received_at: str
    """Date and time, UTC."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what is empty is left out."""
        values = asdict(self)
        click = {n: v for n, v in values.pop("click").items() if v not in ("", None)}
        return click | {"clip": [self.video_uri, self.start_s, self.end_s], "at": self.received_at}


def record_of(values: Mapping[str, Any], source: str) -> Record:
    """The inverse of `to_dict`; ValueError names the source."""
    rest = dict(values)
    clip, received_at = rest.pop("clip", None), rest.pop("at", None)
    if not isinstance(clip, list) or len(clip) != 3 or not isinstance(received_at, str):
        raise ValueError(f"{source}: not a click: `clip` or `at` is missing")
    video_uri, start_s, end_s = clip
    click = from_dict(Click, rest, source)
    return Record(
        click=click, video_uri=video_uri, start_s=start_s, end_s=end_s, received_at=received_at
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipState:
    """What the clicks on one clip come to: on the span that its id stood for when the last one came."""

    clip_id: str
    video_uri: str
    start_s: float
    end_s: float | None
    label: str | None = None
    """None = no click gave it one; "" = a click took it away."""
    not_labels: frozenset[str] = field(default_factory=frozenset)
    is_skipped: bool = False
    is_moved: bool = False
    """Whether a click moved an end of the span."""
    clicked: "Record"
    """The last click, with where the clip lay then."""

    @property
    def is_asked(self) -> bool:
        """Whether somebody has answered, or has passed it over."""
        return bool(self.label) or self.is_skipped

    def is_of(self, video_uri: str, start_s: float, end_s: float | None) -> bool:
        """Whether a row with the clip's id is still of that span: a table may give it to another one."""
        return _is_same_span(self.clicked, video_uri, start_s, end_s)


class Clicks:
    """All clicks in their order, and the state of each clip."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._by_id: dict[str, Click] = {}
        self._by_clip: defaultdict[str, list[Record]] = defaultdict(list)
        self._states: dict[str, ClipState] = {}
        for record in records:
            self.add(record)

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, click_id: str) -> Click | None:
        """The click with this id."""
        return self._by_id.get(click_id)

    def check(self, click: Click, before: Mapping[str, Click]) -> None:
        """ValueError for a click that cannot follow those that are here and then those `before`: an undo of another clip's click, or a
        second click of one id."""
        known = before.get(click.click_id) or self._by_id.get(click.click_id)
        if known is not None and known != click:
            raise ValueError(f"click_id {click.click_id!r} is that of another click; choose a new one for each")  # fmt: skip
        if click.kind == "undo":
            undone = before.get(click.undoes) or self._by_id.get(click.undoes)
            if undone is None or undone.clip_id != click.clip_id:
                raise ValueError(f"undoes is {click.undoes!r}; it must be an earlier click of clip {click.clip_id!r}")  # fmt: skip

    def add(self, record: Record) -> None:
        """A click that was checked."""
        click = record.click
        if click.click_id in self._by_id:
            return
        self._by_id[click.click_id] = click
        records = self._by_clip[click.clip_id]
        records.append(record)
        self._states[click.clip_id] = _state_of(records)

    def state(self, clip_id: str) -> ClipState | None:
        """None where nobody has clicked on the clip."""
        return self._states.get(clip_id)

    def states(self) -> list[ClipState]:
        """In the order of the first click on each clip."""
        return list(self._states.values())


def _is_same_span(record: Record, video_uri: str, start_s: float, end_s: float | None) -> bool:
    """Of files by their names alone: an archive may have been moved."""
    ends_s = [math.inf if end is None else end for end in (record.end_s, end_s)]
    return (
        PurePosixPath(record.video_uri).name == PurePosixPath(video_uri).name
        and math.isclose(record.start_s, start_s, abs_tol=_SAME_S)
        and (ends_s[0] == ends_s[1] or math.isclose(*ends_s, abs_tol=_SAME_S))
    )


def _state_of(records: list[Record]) -> ClipState:
    last = records[-1]
    records = [r for r in records if _is_same_span(r, last.video_uri, last.start_s, last.end_s)]
    undone: set[str] = set()
    live: list[Click] = []
    for record in reversed(records):  # an undo comes after what it undoes
        click = record.click
        if click.click_id in undone:
            continue
        undone |= {click.undoes} if click.kind == "undo" else set()
        live.append(click)
    label: str | None = None
    not_labels: set[str] = set()
    is_skipped = False
    span: tuple[float, float | None] = (records[-1].start_s, records[-1].end_s)
    is_moved = False
    for click in reversed(live):
        match click.kind:
            case "label":
                label, is_skipped = click.label, False
                not_labels.discard(click.label)
            case "not":
                not_labels.add(click.label)
                label = None if label == click.label else label
            case "skip":
                is_skipped = True
            case "span":
                assert click.start_s is not None
                span, is_moved = (click.start_s, click.end_s), True
    return ClipState(
        clip_id=records[-1].click.clip_id,
        video_uri=records[-1].video_uri,
        start_s=span[0],
        end_s=span[1],
        label=label,
        not_labels=frozenset(not_labels),
        is_skipped=is_skipped,
        is_moved=is_moved,
        clicked=last,
    )
