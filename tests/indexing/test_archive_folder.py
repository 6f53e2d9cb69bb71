import json
import shutil
from pathlib import Path

import pytest

from indexing.archive_folder import Archive, ArchiveOptions, read_archive, relocate, write_archive


def make(folder: Path, **changes: object) -> Archive:
    for name in ("bundle", "milvus", "videos"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    values = {
        "folder": folder,
        "bundle": folder / "bundle",
        "milvus_uri": str(folder / "milvus"),
        "collection": "clips",
        "videos": str(folder / "videos"),
        "indexed_from": str(folder / "videos"),
    }
    archive = Archive(**{**values, **changes})  # type: ignore[arg-type]
    write_archive(archive)
    return archive


def test_an_archive_is_read_as_it_was_written(tmp_path: Path) -> None:
    archive = make(tmp_path / "a")
    assert read_archive(tmp_path / "a") == archive
    assert archive.moved_videos is None


def test_a_moved_archive_knows_its_own_parts_and_where_its_videos_went(tmp_path: Path) -> None:
    old, new = tmp_path / "a", tmp_path / "elsewhere" / "b"
    make(old)
    new.parent.mkdir()
    shutil.move(old, new)
    archive = read_archive(new)
    assert (archive.bundle, archive.milvus_uri) == (new / "bundle", str(new / "milvus"))
    assert relocate(f"{old}/videos/x/1.mp4", archive.moved_videos) == f"{new}/videos/x/1.mp4"


def test_videos_that_were_moved_alone_are_named(tmp_path: Path) -> None:
    make(tmp_path / "a", videos=str(tmp_path / "v"), indexed_from=str(tmp_path / "v"))
    (tmp_path / "w").mkdir()
    moved = read_archive(tmp_path / "a", videos_root=str(tmp_path / "w")).moved_videos
    assert relocate(f"{tmp_path}/v/1.mp4", moved) == f"{tmp_path}/w/1.mp4"
    assert relocate(f"{tmp_path}/vv/1.mp4", moved) == f"{tmp_path}/vv/1.mp4"
    remote = read_archive(tmp_path / "a", videos_root="s3://bucket/v/").moved_videos
    assert relocate(f"{tmp_path}/v/1.mp4", remote) == "s3://bucket/v/1.mp4"
    with pytest.raises(ValueError, match="videos_root is"):
        read_archive(tmp_path / "a", videos_root=str(tmp_path / "gone"))


def test_servers_and_buckets_are_kept_as_they_are(tmp_path: Path) -> None:
    uri, videos = "http://host:19530", "s3://bucket/v"
    make(tmp_path / "a", milvus_uri=uri, videos=videos, indexed_from=videos)
    archive = read_archive(tmp_path / "a")
    assert (archive.milvus_uri, archive.videos) == (uri, videos)


def test_what_is_not_an_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"is not an archive: archive\.json is missing; `tfcovr build"
    ):
        read_archive(tmp_path)
    path = tmp_path / "archive.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        read_archive(tmp_path)
    path.write_text('{"format": 2}')
    with pytest.raises(ValueError, match="format must be 1"):
        read_archive(tmp_path)
    make(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "bundle": "gone"}))
    with pytest.raises(ValueError, match=r"bundle .*gone is missing"):
        read_archive(tmp_path)


def test_a_folder_or_its_parts_are_given_and_not_both(tmp_path: Path) -> None:
    archive = make(tmp_path / "a")
    assert ArchiveOptions(archive=tmp_path / "a").located() == archive
    assert ArchiveOptions(bundle=Path("b"), milvus_uri="m").located().bundle == Path("b")
    with pytest.raises(ValueError, match="not both"):
        ArchiveOptions(archive=tmp_path / "a", bundle=Path("b")).located()
    with pytest.raises(ValueError, match="give an archive folder"):
        ArchiveOptions(bundle=Path("b")).located()
