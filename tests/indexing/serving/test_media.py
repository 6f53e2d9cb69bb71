from pathlib import Path

import numpy as np
import pytest

from benchmarks.dives.video import write_video
from indexing.search.types import ClipPlace
from indexing.serving.media import Media, checked_path, media_type, parse_range, read_range
from indexing.serving.problems import ProblemError


def place(path: object) -> ClipPlace:
    return ClipPlace(clip_id="c", video_uri=str(path), start_s=0.0, end_s=1.0)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None), ("bytes=0-", (0, 99)), ("bytes=0-0", (0, 0)), ("bytes=90-200", (90, 99)), ("bytes=99-99", (99, 99)),
        ("bytes=-1", (99, 99)), ("bytes=-100", (0, 99)), ("bytes=-500", (0, 99)), (" bytes=5-9 ", (5, 9)),
    ],
)  # fmt: skip
def test_one_range_of_a_hundred_bytes(header: str | None, expected: tuple | None) -> None:
    assert parse_range(header, 100) == expected


@pytest.mark.parametrize(
    "header",
    ["bytes=100-", "bytes=9-5", "bytes=-", "bytes=-0", "bytes=0-1,3-4", "bytes=a-b", "items=0-1", "", "bytes=" + "9" * 30 + "-"],
)  # fmt: skip
def test_a_range_that_cannot_be_met_says_how_long_the_file_is(header: str) -> None:
    with pytest.raises(ProblemError) as refused:
        parse_range(header, 100)
    assert refused.value.status == 416
    assert refused.value.headers == {"content-range": "bytes */100"}


def test_an_empty_file_has_no_range() -> None:
    with pytest.raises(ProblemError):
        parse_range("bytes=0-", 0)


def test_a_range_is_read_in_pieces(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(600_000)
    path = tmp_path / "a"
    path.write_bytes(data)
    pieces = list(read_range(path, 10, 550_000))
    assert len(pieces) > 1
    assert b"".join(pieces) == data[10:550_001]


def test_only_a_video_file_that_is_no_link_is_given_out(tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    video = folder / "a.mp4"
    write_video(video, [np.zeros((10, 64, 64, 3), np.uint8)], codec="h264")
    assert checked_path(place(video)) == video
    assert checked_path(place(f"file://{video}")) == video
    assert media_type(video) == "video/mp4"
    (folder / "link.mp4").symlink_to(video)
    (folder / "sub").mkdir()
    (folder / "way").symlink_to(folder)
    (folder / "text.mp4").write_text("root:x:0:0")
    for wrong in ("link.mp4", "way/a.mp4", "sub", "text.mp4", "gone.mp4", "sub/../a.mp4"):
        with pytest.raises(ProblemError) as refused:
            checked_path(place(f"{folder}/{wrong}"))
        assert refused.value.status == 404
        assert str(folder) not in str(refused.value)


def test_kept_clips_have_a_limit_in_bytes_and_the_oldest_go_first() -> None:
    media = Media(max_kept_bytes=100)
    made: list[str] = []

    def asked(name: str, size: int) -> None:
        def make() -> bytes:
            made.append(name)
            return bytes(size)

        assert len(media._once(("trim", name), make)) == size

    for name, size in (("a", 40), ("b", 40), ("a", 40), ("c", 40), ("a", 40), ("b", 40)):
        asked(name, size)
    assert made == ["a", "b", "c", "b"]
    asked("huge", 500)  # given out, not kept
    asked("huge", 500)
    assert made[-2:] == ["huge", "huge"]
    media.close()
