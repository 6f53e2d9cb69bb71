"""A probe takes clips of triplets first, spreads the rest over the archive, and leaves out what can't be decoded."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoders.clips import Clip, write_clips
from encoders.export.drift import ProbeQuery
from encoders.export.drift_probe import read_probe, synthetic_probe
from encoders.media.sampling import SamplingConfig

SAMPLING = SamplingConfig(num_frames=2, frame_size=16)


@pytest.fixture
def archive(make_video, tmp_path):
    """Ten clips of one video, one of them of a file that is no video."""
    (tmp_path / "bad.mp4").write_text("no video")
    video = str(make_video("probe.mp4"))
    clips = [
        Clip(
            clip_id=f"c{n}",
            video_uri=str(tmp_path / "bad.mp4") if n == 4 else video,
            start_s=n * 0.1,
            end_s=n * 0.1 + 0.5,
            label=None if n == 0 else "ab"[n % 2],
        )
        for n in range(10)
    ]
    write_clips(tmp_path / "clips.parquet", clips)
    return tmp_path / "clips.parquet"


def write_triplets(path, rows):
    names = ("query_clip_id", "edit_text", "target_clip_ids")
    pq.write_table(pa.table({name: [row[n] for row in rows] for n, name in enumerate(names)}), path)
    return path


def test_clips_spread_over_the_archive_with_their_labels(archive):
    probe = read_probe(SAMPLING, archive, num_clips=5, with_queries=False)
    assert probe.source == "clips.parquet"
    assert probe.labels == (None, "a", "a", "a")  # c0, c2, c6, c8; c4 is no video
    assert probe.frames_NTHWC.shape == (4, 2, 16, 16, 3)
    assert probe.queries == ()


def test_triplets_choose_the_clips_and_lose_what_is_missing(archive, tmp_path):
    rows = [
        ("c9", "more", ["c7", "elsewhere"]),
        ("c9", "of a bad file", ["c4"]),
        ("c3", "back", ["c1"]),
        ("elsewhere", "lost", ["c1"]),
    ]
    triplets = write_triplets(tmp_path / "triplets.parquet", rows)
    probe = read_probe(SAMPLING, archive, num_clips=5, triplets_path=triplets)
    # c9, c7, c4 (no video), c3, c1 in this order.
    assert probe.labels == ("b", "b", "b", "b")
    assert probe.queries == (
        ProbeQuery(clip=0, edit_text="more", targets=(1,)),
        ProbeQuery(clip=2, edit_text="back", targets=(3,)),
    )


def test_a_file_of_other_columns_and_an_archive_of_nothing_are_refused(archive, tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match=r"other\.parquet: column .* is missing"):
        read_probe(SAMPLING, archive, num_clips=5, triplets_path=tmp_path / "other.parquet")
    clips = [Clip(clip_id=f"x{n}", video_uri=str(tmp_path / "bad.mp4")) for n in range(3)]
    write_clips(tmp_path / "bad.parquet", clips)
    with pytest.raises(ValueError, match="0 of 3 chosen clips"):
        read_probe(SAMPLING, tmp_path / "bad.parquet", num_clips=5)


def test_a_drawn_probe_has_queries_only_where_the_bundle_takes_them():
    probe = synthetic_probe(SAMPLING, 6, with_queries=True)
    assert [query.clip for query in probe.queries] == list(range(6))
    assert len({query.edit_text for query in probe.queries}) == 6
    assert len(np.unique(probe.frames_NTHWC.reshape(6, -1), axis=0)) == 6
    assert synthetic_probe(SAMPLING, 6, with_queries=False).queries == ()
