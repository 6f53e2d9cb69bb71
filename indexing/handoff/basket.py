"""A basket: a file of spans that somebody wants to keep, in their order, from any number of searches and archives."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.storage import write_atomic
from encoders.clips import is_storable
from encoders.files import from_dict, read_json
from indexing.handoff.cuts import Cut, Pick, pick_of_place
from indexing.handoff.export import export_picks
from indexing.handoff.reel import render_reel, require_reel
from indexing.search.types import ClipPlace

_FORMAT = "tfcovr basket 1"


@dataclass(frozen=True, kw_only=True, slots=True)
class BasketSpan:
    """One span."""

    clip_id: str
    video_uri: str
    start_s: float
    end_s: float | None
    """None = to the end of the video."""
    label: str | None = None
    note: str = ""
    """Such as the edit text that found it."""

    def __post_init__(self) -> None:
        end_s = math.inf if self.end_s is None else self.end_s
        if not 0 <= self.start_s < end_s:
            raise ValueError(f"start_s is {self.start_s} and end_s {self.end_s}; a span has 0 <= start < end")  # fmt: skip
        for name in ("clip_id", "video_uri", "label", "note"):
            text = getattr(self, name) or ""
            if not is_storable(text):
                raise ValueError(
                    f"{name} is {text[:80]!r}; it must be text without null characters"
                )


class Basket:
    """The spans of a basket file, which is written anew with every change; a file that is not there is an empty basket.

    ValueError for a file that is not a basket.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._spans: list[BasketSpan] = []
        if not self.path.exists():
            return
        try:
            content = read_json(self.path, object)
        except ValueError as error:
            raise ValueError(f"{self.path} is not a basket: {error}") from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(f"{self.path} is not a basket: format must be {_FORMAT!r}")
        rows = content.get("spans")
        if not isinstance(rows, list):
            raise ValueError(f"{self.path} is not a basket: spans must be a list")
        self._spans = [
            from_dict(BasketSpan, row, f"{self.path}: spans[{number}]")
            for number, row in enumerate(rows)
        ]

    def __len__(self) -> int:
        return len(self._spans)

    def __iter__(self) -> Iterator[BasketSpan]:
        return iter(self._spans)

    def save(self, places: Iterable[ClipPlace], *, note: str = "") -> int:
        """Add clips, such as the hits of a search, that are not in it yet; how many were new."""
        known = {(span.video_uri, span.start_s, span.end_s) for span in self._spans}
        before = len(self._spans)
        for place in places:
            key = (place.video_uri, place.start_s, place.end_s)
            if key in known:
                continue
            known.add(key)
            self._spans.append(
                BasketSpan(
                    clip_id=place.clip_id,
                    video_uri=place.video_uri,
                    start_s=place.start_s,
                    end_s=place.end_s,
                    label=place.label,
                    note=note,
                )
            )
        self._write()
        return len(self._spans) - before

    def remove(self, numbers: Iterable[int]) -> None:
        """Take spans out by their numbers, counted from 1; ValueError for one that is not there."""
        gone = set(numbers)
        wrong = sorted(number for number in gone if not 1 <= number <= len(self._spans))
        if wrong:
            raise ValueError(f"number is {wrong[0]}; the basket has {len(self._spans)} spans")
        self._spans = [s for n, s in enumerate(self._spans, start=1) if n not in gone]
        self._write()

    def picks(self) -> list[Pick]:
        """All spans, numbered; ValueError where a video is not on this machine, or the basket is empty."""
        if not self._spans:
            raise ValueError(
                f"basket {self.path} is empty; `tfcovr search ... --save {self.path}` fills it"
            )
        return [
            pick_of_place(
                ClipPlace(
                    clip_id=span.clip_id,
                    video_uri=span.video_uri,
                    start_s=span.start_s,
                    end_s=span.end_s,
                    label=span.label,
                ),
                name=f"{number:03} {span.label or span.clip_id}",
                note=span.note,
            )
            for number, span in enumerate(self._spans, start=1)
        ]

    def export(self, *paths: str | Path) -> list[Cut]:
        """Write lists of cuts in the formats that the names say; see `indexing.handoff.export`."""
        return export_picks(self.picks(), [Path(path) for path in paths])

    def render(self, path: str | Path) -> list[Cut]:
        """Write one MP4 of all spans, without sound."""
        require_reel(Path(path))
        return render_reel(self.picks(), Path(path))

    def _write(self) -> None:
        spans: Sequence[dict[str, object]] = [asdict(span) for span in self._spans]
        content = {"format": _FORMAT, "spans": spans}
        write_atomic(self.path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
