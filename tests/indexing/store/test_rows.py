from dataclasses import replace

import pytest

from encoders.clips import Clip
from indexing.store.rows import require_storable

CLIP = Clip(clip_id="one", video_uri="/v/1.mp4", start_s=1.0, end_s=2.0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"label": "é" * 600}, "clip 'one': label has 1200 bytes; Milvus keeps at most 1024"),
        ({"clip_id": "x" * 1025}, "clip_id has 1025 bytes"),
        ({"attributes": {"note": "n" * 70_000}}, "attributes has 700.. bytes"),
    ],
)
def test_a_clip_that_milvus_would_refuse_is_refused(value, message) -> None:
    with pytest.raises(ValueError, match=message):
        require_storable(replace(CLIP, **value))
