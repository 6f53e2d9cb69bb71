import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from encoders.clips import Clip, write_clips
from encoders.media.container import local_path
from indexing.sources import archive as archive_module
from indexing.sources.archive import list_archive
from indexing.sources.content import local_stamp, read_contents
from indexing.sources.fingerprint import Fingerprint, read_fingerprint


def list_clips(source) -> list[Clip]:
    return list(list_archive(source).clips)


CLIP = Clip(clip_id="one", video_uri="/v/1.mp4", start_s=1.0, end_s=2.0)


def test_a_folder_a_glob_and_a_file_become_one_clip_per_video(tmp_path: Path) -> None:
    for name in ("b.mp4", "deep/a.webm", "deep/notes.txt", "deep/er/C.MOV"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [clip.clip_id for clip in list_clips(tmp_path)] == [
        "b.mp4",
        "deep/a.webm",
        "deep/er/C.MOV",
    ]
    assert [clip.clip_id for clip in list_clips(f"{tmp_path}/deep/**/*.[wM]*")] == [
        "a.webm",
        "er/C.MOV",
    ]
    (one,) = list_clips(tmp_path / "b.mp4")
    assert (one.clip_id, one.video_uri) == ("b.mp4", str(tmp_path / "b.mp4"))
    write_clips(tmp_path / "clips.parquet", [replace(CLIP, video_uri=one.video_uri)])
    assert list_clips(tmp_path / "clips.parquet") == [replace(CLIP, video_uri=one.video_uri)]
    for wrong in ("nowhere", "deep/notes.txt", "deep/*.avi"):
        with pytest.raises(ValueError, match="video"):
            list_clips(tmp_path / wrong)


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "far.mp4").touch()
    archive = tmp_path / "archive"
    (archive / "own").mkdir(parents=True)
    (archive / "own" / "near.mp4").touch()
    (archive / "a").symlink_to(archive / "own")  # listed under its own name only
    (archive / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(archive)
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
    for source in (archive, f"{archive}/**/*.mp4"):
        names = [clip.clip_id for clip in list_clips(source)]
        assert names == ["own/near.mp4", "b/deep/far.mp4"]


def test_a_glob_follows_every_link_and_a_link_to_itself_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.mp4").touch()
    (tmp_path / "y").symlink_to(tmp_path / "x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert [clip.clip_id for clip in list_clips(f"{tmp_path}/*/a.mp4")] == ["x/a.mp4", "y/a.mp4"]
    assert [clip.clip_id for clip in list_clips(tmp_path)] == ["x/a.mp4"]


def test_clips_of_one_id_are_refused(tmp_path: Path) -> None:
    table = pa.table({"clip_id": ["a", "b", "a"], "video_uri": ["1.mp4", "2.mp4", "3.mp4"]})
    pq.write_table(table, tmp_path / "clips.parquet")
    with pytest.raises(ValueError, match="clips 1 and 3 both have clip_id 'a'"):
        list_archive(tmp_path / "clips.parquet")


def test_names_that_are_not_utf_8_are_escaped_open_and_take_no_other_name(tmp_path: Path) -> None:
    names = (b"caf\xe9.mp4", b"caf%E9.mp4", b"caf%\xe9.mp4", b"caf%25%E9.mp4", b"caf\xc3\xa9.mp4")
    for name in names:
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:  # noqa: PTH123 - bytes
            file.write(name)
    clips = list_clips(tmp_path)
    expected = {
        b"caf\xe9.mp4": "./caf%E9.mp4",
        b"caf%\xe9.mp4": "./caf%25%E9.mp4",
        **{name: name.decode() for name in names if name.isascii() or b"\xc3" in name},
    }
    found = {local_path(clip.video_uri).read_bytes(): clip.clip_id for clip in clips}
    assert found == expected
    planned = Fingerprint(str(tmp_path))
    for clip in clips:
        stamp = local_stamp(local_path(clip.video_uri).stat())
        planned.add_video(clip.clip_id, clip.video_uri, stamp)
    assert planned.value() == read_fingerprint(str(tmp_path))
    write_clips(tmp_path / "clips.parquet", clips)
    assert list_clips(tmp_path / "clips.parquet") == clips
    contents = read_contents([clip.video_uri for clip in clips], {})
    assert len({content.content_hash for content in contents.values()}) == len(names)


def test_remote_clips_show_no_secret(tmp_path: Path) -> None:
    signed = "https://user:pass@host/a.mp4?X-Amz-Signature=abc&part=1"
    write_clips(tmp_path / "clips.parquet", [replace(CLIP, video_uri=signed)])
    archive = list_archive(tmp_path / "clips.parquet")
    assert [clip.video_uri for clip in archive.clips] == ["https://host/a.mp4?part=1"]
    assert archive.fetch_uris == {"https://host/a.mp4?part=1": signed}
    assert "pass" not in repr(archive)
    with pytest.raises(ValueError, match="http has no folders"):
        list_archive("https://user:pass@host/folder/?token=1")


def test_a_table_may_be_a_folder_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "clips.parquet"
    for number in range(3):
        clip = Clip(clip_id=f"c{number}", video_uri=f"videos/{number}.mp4")
        write_clips(
            tmp_path / f"{number}.parquet",
            [replace(clip, video_uri=str(tmp_path / clip.video_uri))],
        )
    folder.mkdir()
    with pytest.raises(ValueError, match=r"clips\.parquet is a folder without one \.parquet file"):
        list_archive(folder)
    for number in range(3):
        (tmp_path / f"{number}.parquet").rename(folder / f"part-{number}.parquet")
    assert [clip.video_uri for clip in list_archive(folder).clips] == [
        str(tmp_path / "videos" / f"{number}.mp4") for number in range(3)
    ]


def test_videos_that_would_be_stored_under_one_name_are_refused(tmp_path: Path) -> None:
    def archive_of(*queries: str) -> int:
        clips = [
            replace(CLIP, clip_id=f"c{i}", video_uri=f"https://host/get?{query}")
            for i, query in enumerate(queries)
        ]
        write_clips(tmp_path / "clips.parquet", clips)
        return len({clip.video_uri for clip in list_archive(tmp_path / "clips.parquet").clips})

    assert archive_of("id=1&part=1", "id=1&part=2", "id=1&part=3") == 3
    assert (
        archive_of("id=1&X-Amz-Signature=A", "id=1&X-Amz-Signature=B", "id=2&X-Amz-Signature=C")
        == 2
    )
    with pytest.raises(
        ValueError,
        match=r"clip 'c1': another clip's video differs from 'https://host/get' only.*\bfilename\b",
    ):
        archive_of("hash=one&token=T", "hash=two&token=T")


@pytest.mark.parametrize(
    "pattern",
    ["**/*.mp4", "videos/**/*.mp4", "videos/*.mp4", "videos/*/*.mp4", "*/deep/**/[ab].mp4", "videos/**/deep/*"],
)  # fmt: skip
def test_a_glob_means_in_a_bucket_what_it_means_in_a_folder(tmp_path, monkeypatch, pattern) -> None:
    names = ["a.mp4", "videos/a.mp4", "videos/b.mp4", "videos/deep/a.mp4", "videos/sub/deep/c.mp4", "videos/x.txt"]  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(
        archive_module,
        "list_remote",
        lambda uri: [
            (f"s3://bucket/{n}", None) for n in names if f"s3://bucket/{n}".startswith(uri)
        ],
    )
    local = [clip.video_uri.removeprefix(f"{tmp_path}/") for clip in list_clips(tmp_path / pattern)]
    remote = [clip.video_uri for clip in list_archive(f"s3://bucket/{pattern}").clips]
    assert sorted(remote) == [f"s3://bucket/{name}" for name in sorted(local)]


def test_a_link_that_leads_nowhere_is_a_video_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "whole.mp4").write_bytes(b"1")
    (tmp_path / "lost.mp4").symlink_to("unmounted/lost.mp4")
    archive = list_archive(tmp_path)
    assert [clip.clip_id for clip in archive.clips] == ["lost.mp4", "whole.mp4"]
    contents = read_contents([clip.video_uri for clip in archive.clips], {})
    problems = [contents[clip.video_uri].problem for clip in archive.clips]
    assert "FileNotFoundError" in problems[0]
    assert not problems[1]
    with pytest.raises(ValueError, match="no place of clips is given"):
        list_archive("")
