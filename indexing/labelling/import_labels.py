"""Labels of a clips.parquet as clicks on the clips of an archive: those of the same video whose spans are the same, nearly.

A clip id alone says little: another table may give it to another span. Importing the same table again stores nothing.
"""

import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import PurePosixPath

import numpy as np

from encoders.clips import Clip
from encoders.metrics import temporal_iou
from indexing.archive_folder import relocate
from indexing.labelling.clicks import Click
from indexing.labelling.desk import LabelDesk
from indexing.search.types import ClipPlace, clip_place_of_row
from indexing.store.schema import ROW_FIELDS

_TO_THE_END_S = 1e9
_MIN_IOU = 0.5
_BATCH = 1000


@dataclass(kw_only=True)
class ImportedLabels:
    """What became of the labelled clips of a table; lists hold their ids."""

    num_new: int = 0
    """Clips of the archive that got another label than they had."""
    num_known: int = 0
    """Clips of the archive that had their label before."""
    missing: list[str] = field(default_factory=list)
    """No clip of the archive has their video and span."""
    ambiguous: list[str] = field(default_factory=list)
    """Clips of several videos could be meant: files of one name, or two rows with different labels for one clip."""


def import_labels(desk: LabelDesk, clips: Sequence[Clip]) -> ImportedLabels:
    """Store the labels of a table."""
    found, result = _Places(desk), ImportedLabels()
    labels: dict[str, str] = {}
    contested: set[str] = set()
    for clip in clips:
        if clip.label is None:
            continue
        places = found.of(clip)
        if not places:
            result.missing.append(clip.clip_id)
        elif len(places) > 1:
            result.ambiguous.append(clip.clip_id)
        elif labels.setdefault(places[0].clip_id, clip.label) != clip.label:
            result.ambiguous.append(clip.clip_id)
            contested.add(places[0].clip_id)
    clicks = []
    for clip_id, label in labels.items():
        if clip_id in contested:
            continue
        if found.label_by_id[clip_id] == label:
            result.num_known += 1
            continue
        click_id = secrets.token_urlsafe(16)
        clicks.append(Click(click_id=click_id, kind="label", clip_id=clip_id, label=label))
    for first in range(0, len(clicks), _BATCH):
        desk.store(clicks[first : first + _BATCH])
    result.num_new = len(clicks)
    return result


class _Places:
    """The clips of an archive as clicks have left them, by where they lie."""

    def __init__(self, desk: LabelDesk) -> None:
        moved = desk.client.options.moved_videos
        self._by_video: defaultdict[tuple[str, ...], list[ClipPlace]] = defaultdict(list)
        self.label_by_id: dict[str, str | None] = {}
        for row in desk.client.collection.rows(ROW_FIELDS):
            place = desk.current(clip_place_of_row(row))
            self._by_video[_parts(relocate(place.video_uri, moved))].append(place)
            self.label_by_id[place.clip_id] = place.label
        self._videos_by_name: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
        for parts in self._by_video:
            self._videos_by_name[parts[-1]].append(parts)
        self._spans = {parts: _spans(places) for parts, places in self._by_video.items()}

    def of(self, clip: Clip) -> list[ClipPlace]:
        """The clip that is meant: none, or one of each video that may be meant."""
        places = []
        for video in self._videos_of(_parts(clip.video_uri)):
            iou_N = temporal_iou(_spans([clip]), self._spans[video])[0]
            if iou_N.max() < _MIN_IOU:
                continue
            nearest = [self._by_video[video][n] for n in np.flatnonzero(iou_N == iou_N.max())]
            places.append(max(nearest, key=lambda place: place.clip_id == clip.clip_id))
        return places

    def _videos_of(self, parts: tuple[str, ...]) -> list[tuple[str, ...]]:
        """Videos of that name in the folders that agree best: tables of other programs name videos as those see them."""
        videos = self._videos_by_name.get(parts[-1], [])
        agreed = [_num_agreed(parts, video) for video in videos]
        return [v for v, count in zip(videos, agreed, strict=True) if count == max(agreed)]


def _parts(uri: str) -> tuple[str, ...]:
    return PurePosixPath(uri.partition("://")[2] or uri).parts


def _num_agreed(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """Number of names that are the same, from the last one on."""
    pairs = zip(reversed(first), reversed(second), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _spans(clips: Iterable[Clip | ClipPlace]) -> np.ndarray:
    return np.array([(c.start_s, _TO_THE_END_S if c.end_s is None else c.end_s) for c in clips])
