"""Where is the clip that a text or a row names?"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from indexing.archive import VIDEO_SUFFIXES
from indexing.milvus_schema import TO_THE_END
from indexing.search_types import ClipPlace

_SPAN = re.compile(r"^(?P<file>.+)@(?P<start>\d+(\.\d+)?)-(?P<end>\d+(\.\d+)?)?$")


def parse_file(text: str) -> ClipPlace | None:
    """FILE, FILE@START-END or FILE@START-; None when there is no such file."""
    path, start_s, end_s = Path(text), 0.0, None
    matched = _SPAN.match(text)
    if not path.is_file() and matched:
        path = Path(matched["file"])
        start_s = float(matched["start"])
        end_s = None if matched["end"] is None else float(matched["end"])
        if end_s is not None and end_s <= start_s:
            raise ValueError(f"{text!r} ends at {end_s} s, which is not after {start_s} s")
    if not path.is_file():
        if path.suffix.lower() in VIDEO_SUFFIXES:
            raise ValueError(f"there is no file {str(path)!r}")
        return None
    return ClipPlace(clip_id="", video_uri=str(path.resolve()), start_s=start_s, end_s=end_s)


def place_of_row(row: Mapping[str, Any]) -> ClipPlace:
    """The clip of a row of the collection."""
    return ClipPlace(
        clip_id=row["clip_id"],
        video_uri=row["video_uri"],
        start_s=row["start_s"],
        end_s=None if row["end_s"] == TO_THE_END else row["end_s"],
        label=row["label"] or None,
        split=row["split"] or None,
        attributes=dict(row["attributes"] or {}),
    )
