import os
import time
from pathlib import Path

import pytest

from encoders.clips import Clip
from indexing.sources.archive import Archive, list_archive
from indexing.sources.changes import changed_since, since_of
from indexing.sources.remote import RemoteStamp


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 1e6 - 5400), ("36h", 1e6 - 129_600), ("1.5d", 1e6 - 129_600), ("2w", 1e6 - 1_209_600),
     ("1970-01-02T00:00+00:00", 86_400), ("1970-01-02T00:00Z", 86_400)],
)  # fmt: skip
def test_a_time_or_how_long_ago(text: str, seconds: float) -> None:
    assert since_of(text, 1e6) == seconds


@pytest.mark.parametrize("text", ["yesterday", "36", "-1h", "h", "2026-13-01"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"since is '{text}'; give a time such as"):
        since_of(text, 1e6)


def test_a_file_that_was_moved_here_counts_however_old_its_content_is(tmp_path: Path) -> None:
    for name in ("old", "new", "moved"):
        (tmp_path / f"{name}.mp4").write_bytes(name.encode())
        os.utime(tmp_path / f"{name}.mp4", (1e9, 1e9))
    archive = list_archive(tmp_path)
    before = time.time()
    assert changed_since(archive, before + 10).clips == ()
    time.sleep(0.05)
    middle = time.time()
    time.sleep(0.05)
    (tmp_path / "moved.mp4").rename(tmp_path / "elsewhere.mp4")
    (tmp_path / "elsewhere.mp4").rename(tmp_path / "moved.mp4")
    (tmp_path / "new.mp4").write_bytes(b"NEW")
    names = [clip.clip_id for clip in changed_since(archive, middle).clips]
    assert names == ["moved.mp4", "new.mp4"]


def test_a_video_without_a_time_is_looked_at() -> None:
    clips = tuple(Clip(clip_id=name, video_uri=f"s3://b/{name}.mp4") for name in "abc")
    stamps = {
        clips[0].video_uri: RemoteStamp(size_bytes=1, version="1", modified_s=100.0),
        clips[1].video_uri: RemoteStamp(size_bytes=1, version="1", modified_s=300.0),
    }
    part = changed_since(Archive(clips=clips, stamps=stamps), 200.0)
    assert [clip.clip_id for clip in part.clips] == ["b", "c"]
