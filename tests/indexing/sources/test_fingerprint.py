"""The fingerprint that a rerun reads beside the one that planning made on its way, and what changes it."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoders.clips import Clip, write_clips
from indexing.ledger.archives import ArchiveRows
from indexing.ledger.ledger import Ledger
from indexing.ledger.manifest import Manifest
from indexing.ledger.plan_archive import Contents, Source, plan_archive
from indexing.sources.fingerprint import read_fingerprint
from tests.support.remote_server import serve_folder


def planned(source: str, run_dir: Path) -> str:
    with Ledger(run_dir) as ledger:
        manifest = Manifest(ledger, run_dir)
        contents = Contents(known=ledger.contents, keep=ledger.keep_contents)
        made = plan_archive(Source(source), manifest, encoder_id="e", archive=ArchiveRows(), contents=contents)  # fmt: skip
        manifest.close()
    return made.fingerprint


def table(folder: Path, label: str = "x") -> str:
    clips = [
        Clip(clip_id=f"{v}-{i}", video_uri=f"{folder}/{v}.mp4", start_s=i, end_s=i + 1, label=label)
        for v in "abc"
        for i in range(3)
    ]
    write_clips(folder / "clips.parquet", clips)
    return str(folder / "clips.parquet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "videos" / "deep").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4", "c.mp4", "deep/d.mp4"):
        (tmp_path / "videos" / name).write_bytes(name.encode())
    return tmp_path / "videos"


@pytest.mark.parametrize("kind", ["table", "tables", "folder", "glob"])
def test_it_changes_with_every_file_and_with_nothing_else(folder: Path, tmp_path, kind) -> None:
    source = {"table": table(folder), "folder": str(folder), "glob": f"{folder}/**/[ab].mp4"}.get(
        kind, str(folder / "many.parquet")
    )
    if kind == "tables":
        (folder / "many.parquet").mkdir()
        Path(table(folder)).rename(folder / "many.parquet" / "0.parquet")
    first = planned(source, tmp_path / "run")
    assert first
    assert read_fingerprint(source) == first == planned(source, tmp_path / "again")
    seen = {first}
    path = folder / "b.mp4"
    times_ns = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(b"B.mp4")
    os.utime(path, ns=times_ns)  # the same size and time of writing
    seen.add(read_fingerprint(source))
    (folder / "a.mp4").touch()
    seen.add(read_fingerprint(source))
    assert len(seen) == 3
    assert planned(source, tmp_path / "run") in seen
    (folder / "b.mp4").unlink()
    assert read_fingerprint(source) not in seen


def test_a_label_changes_that_of_a_table_and_a_new_file_that_of_a_folder(folder: Path) -> None:
    before = read_fingerprint(table(folder)), read_fingerprint(str(folder))
    assert read_fingerprint(table(folder)) == before[0]
    assert read_fingerprint(table(folder, label="y")) != before[0]
    (folder / "deep" / "e.mp4").touch()
    assert read_fingerprint(str(folder)) != before[1]


@pytest.mark.parametrize("source", [".", "*.mp4"])
def test_a_relative_source_has_one_too(folder: Path, tmp_path, monkeypatch, source: str) -> None:
    monkeypatch.chdir(folder)
    (folder / "a.mp4").rename(folder / "caf\udce9.mp4")  # not UTF-8
    assert planned(source, tmp_path / "run") == read_fingerprint(source) != ""


def test_a_folder_that_moved_behind_a_link_has_another(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "cam").symlink_to(folder)
    source = str(tmp_path / "archive")
    first = planned(source, tmp_path / "run")
    assert read_fingerprint(source) == first
    folder.rename(tmp_path / "elsewhere")
    (tmp_path / "archive" / "cam").unlink()
    (tmp_path / "archive" / "cam").symlink_to(tmp_path / "elsewhere")
    assert read_fingerprint(source) == planned(source, tmp_path / "again") != first


def test_a_table_without_a_video_is_left_to_planning(tmp_path: Path) -> None:
    table = pa.table({"clip_id": ["a"], "video_uri": pa.array([None], pa.string())})
    pq.write_table(table, tmp_path / "clips.parquet")
    assert read_fingerprint(str(tmp_path / "clips.parquet")) == ""
    with pytest.raises(ValueError, match="row 0: video_uri is None"):
        planned(str(tmp_path / "clips.parquet"), tmp_path / "run")


def test_what_only_planning_can_tell_has_none(folder: Path, tmp_path: Path) -> None:
    clip = Clip(clip_id="a", video_uri="https://host/a.mp4")
    write_clips(tmp_path / "clips.parquet", [clip])
    assert read_fingerprint(str(tmp_path / "clips.parquet")) == ""
    assert read_fingerprint(f"{folder}/nowhere") == ""
    assert read_fingerprint("s3://bucket/clips.parquet") == ""


def test_a_bucket_has_that_of_its_listing(folder: Path, tmp_path, monkeypatch) -> None:
    (tmp_path / "videos").rename(tmp_path / "b")
    with serve_folder(tmp_path) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "1")
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        first = planned("s3://b/deep/", tmp_path / "run")
        assert first == read_fingerprint("s3://b/deep/") != ""
        (tmp_path / "b" / "deep" / "d.mp4").write_bytes(b"changed")
        assert read_fingerprint("s3://b/deep/") not in ("", first)
