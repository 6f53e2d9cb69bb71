"""clips.parquet: what is written comes back, archives move as a whole, and bad rows are named."""

import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoders.clips import CLIPS_SCHEMA, Clip, read_clips, write_clips


def clips_in(folder: Path) -> list[Clip]:
    return [
        Clip(clip_id="a", video_uri=str(folder / "videos" / "a.mp4"), label="107b", split="train"),
        Clip(
            clip_id="b",
            video_uri="s3://bucket/b.mp4",
            start_s=1.5,
            end_s=2.25,
            attributes={"twists": "1.5", "position": "pike"},
        ),
        Clip(clip_id="c", video_uri="/elsewhere/c.mp4", end_s=3.0),
    ]


def test_round_trip_and_move(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    write_clips(old / "clips.parquet", clips_in(old))
    assert read_clips(old / "clips.parquet") == clips_in(old)
    assert pq.read_table(old / "clips.parquet")["video_uri"].to_pylist() == [
        "videos/a.mp4",
        "s3://bucket/b.mp4",
        "/elsewhere/c.mp4",
    ]
    assert pq.read_schema(old / "clips.parquet").equals(CLIPS_SCHEMA)
    shutil.move(old, new)
    assert read_clips(new / "clips.parquet") == clips_in(new)


def test_relative_paths_are_of_the_caller_before_and_of_the_file_after(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_clips("archive/clips.parquet", [Clip(clip_id="a", video_uri="archive/v/a.mp4")])
    assert pq.read_table("archive/clips.parquet")["video_uri"].to_pylist() == ["v/a.mp4"]
    assert read_clips("archive/clips.parquet")[0].video_uri == str(tmp_path / "archive/v/a.mp4")


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "clips.parquet"
    write_clips(path, clips_in(tmp_path))
    before = path.read_bytes()
    twice = [Clip(clip_id="a", video_uri="x"), Clip(clip_id="a", video_uri="y")]
    with pytest.raises(ValueError, match="unique"):
        write_clips(path, twice)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["clips.parquet"]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("clip_id", None, r"row 1: clip_id is None"),
        ("clip_id", "good", r"row 1: clip_id is 'good', as in row 0"),
        ("video_uri", "", r"row 1: video_uri is ''"),
        ("start_s", -1.0, r"row 1: start_s is -1.0"),
        ("start_s", float("nan"), r"row 1: start_s is nan"),
        ("end_s", 0.5, r"row 1: end_s is 0.5; .*start_s \(1.0\)"),
    ],
)
def test_bad_rows_are_named(tmp_path, column, value, message):
    good = {"clip_id": "good", "video_uri": "a.mp4", "start_s": 0.0, "end_s": None}
    bad = {"clip_id": "bad", "video_uri": "b.mp4", "start_s": 1.0, "end_s": 2.0} | {column: value}
    path = tmp_path / "clips.parquet"
    pq.write_table(pa.Table.from_pylist([good, bad]), path)
    with pytest.raises(ValueError, match=message) as error:
        read_clips(path)
    assert str(path) in str(error.value)


def test_missing_and_mistyped_columns_are_named(tmp_path):
    path = tmp_path / "clips.parquet"
    pq.write_table(pa.table({"clip_id": ["a"]}), path)
    with pytest.raises(ValueError, match="column 'video_uri' is missing"):
        read_clips(path)
    pq.write_table(pa.table({"clip_id": ["a"], "video_uri": ["v"], "start_s": ["soon"]}), path)
    with pytest.raises(ValueError, match="column 'start_s' has type string"):
        read_clips(path)


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    path = tmp_path / "clips.parquet"
    path.write_text("clip_id,video_uri\n")
    with pytest.raises(ValueError, match=r"clips\.parquet is not a Parquet file"):
        read_clips(path)


def test_a_missing_attribute_of_a_map_is_none(tmp_path):
    write_clips(tmp_path / "clips.parquet", clips_in(tmp_path))
    table = pq.read_table(tmp_path / "clips.parquet").to_pylist()
    table[1]["attributes"] = [("twists", None), ("position", "pike")]
    pq.write_table(pa.Table.from_pylist(table, schema=CLIPS_SCHEMA), tmp_path / "clips.parquet")
    assert read_clips(tmp_path / "clips.parquet")[1].attributes == {"position": "pike"}


def test_two_columns_of_one_name_are_refused(tmp_path):
    columns = [pa.array(["a"]), pa.array(["a.mp4"]), pa.array([1.0]), pa.array([2.0])]
    table = pa.table(columns, names=["clip_id", "video_uri", "start_s", "start_s"])
    pq.write_table(table, tmp_path / "clips.parquet")
    with pytest.raises(ValueError, match="column 'start_s' occurs twice"):
        read_clips(tmp_path / "clips.parquet")


def test_a_time_of_a_frame_that_is_a_text_is_refused(tmp_path):
    frame = pd.DataFrame({"clip_id": ["a"], "video_uri": ["a.mp4"], "start_s": ["1.5"]})
    with pytest.raises(ValueError, match=r"row 0: start_s is '1\.5'; it must be seconds, a number"):
        write_clips(tmp_path / "clips.parquet", frame)
