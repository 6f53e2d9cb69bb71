"""Labels of a clips.parquet as clicks on the clips of an archive: by clip id, else by file name and overlapping span.

Importing the same table again stores nothing.
"""

import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath

from encoders.clips import Clip
from encoders.metrics import match_moments
from indexing.labelling.clicks import Click
from indexing.labelling.desk import LabelDesk
from indexing.search.types import ClipPlace, clip_place_of_row
from indexing.store.schema import ROW_FIELDS

_TO_THE_END_S = 1e9
_BATCH = 1000


def import_labels(desk: LabelDesk, clips: Sequence[Clip]) -> tuple[int, list[str]]:
    """(number of clips that got their label, ids of the labelled clips that no clip of the archive matches)."""
    labelled = [clip for clip in clips if clip.label is not None]
    places = [clip_place_of_row(row) for row in desk.client.collection.rows(ROW_FIELDS)]
    by_id = {place.clip_id: place for place in places}
    nearest = match_moments([_span(clip) for clip in labelled], [_span(place) for place in places])
    clicks: dict[str, Click] = {}
    missing = []
    for clip, number in zip(labelled, nearest, strict=True):
        place = by_id.get(clip.clip_id) or (places[number] if number >= 0 else None)
        if place is None:
            missing.append(clip.clip_id)
            continue
        text = f"{place.clip_id}\0{clip.label}"
        click_id = f"import-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
        clicks[place.clip_id] = Click(
            click_id=click_id, kind="label", clip_id=place.clip_id, label=str(clip.label)
        )
    given = list(clicks.values())
    for first in range(0, len(given), _BATCH):
        desk.store(given[first : first + _BATCH])
    return len(given), missing


def _span(clip: Clip | ClipPlace) -> tuple[str, float, float]:
    """File name, start and end: tables of other programs name videos as those see them."""
    end_s = _TO_THE_END_S if clip.end_s is None else clip.end_s
    return PurePosixPath(clip.video_uri).name, clip.start_s, end_s
