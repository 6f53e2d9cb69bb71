import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.dives.video import write_video
from encoders.decoding.isolated import IsolatedDecoder
from encoders.media.errors import DecodeError
from indexing.search.types import ClipPlace
from indexing.serving.guard.problems import ProblemError
from indexing.serving.media import Media, checked_path, media_type, parse_range, read_range

# Hangs the first time that it is asked, and decodes the second time.
HANGS_WHILE_MARKED = """
import pathlib, time
from encoders.decoding.decode import iter_spans

def decode(request):
    mark = pathlib.Path({mark!r})
    if not mark.exists():
        mark.touch()
        time.sleep(1000)
    yield from iter_spans(request)
"""


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


@pytest.fixture
def media() -> Iterator[Media]:
    made = Media(deadline_s=20, max_kept_bytes=1 << 20)
    yield made
    made.close()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path.resolve() / "a.mp4"
    write_video(path, [np.zeros((20, 64, 64, 3), np.uint8)], codec="h264")
    return path


@pytest.mark.parametrize(
    ("start_s", "end_s"), [(-5.0, 1.0), (1.0, 0.5), (0.5, 0.5), (math.nan, None), (0.0, math.nan), (1e300, None), (math.inf, None), (0.0, -math.inf)]
)  # fmt: skip
def test_a_row_with_a_span_that_cannot_be_is_no_error_of_the_service(
    media: Media, video: Path, start_s: float, end_s: float | None
) -> None:
    clip = ClipPlace(clip_id="c", video_uri=str(video), start_s=start_s, end_s=end_s)
    assert asyncio.run(media.strip_jpeg(clip))[:2] == b"\xff\xd8"
    with pytest.raises(ProblemError) as refused:
        asyncio.run(media.trimmed_mp4(clip))
    assert refused.value.status == 422


def test_a_video_that_cannot_be_decoded_is_remembered_for_a_while(
    media: Media, video: Path, monkeypatch
) -> None:
    video.write_bytes(video.read_bytes()[:200])
    calls = []

    def failing(clip, style, decoder):
        calls.append(clip)
        raise DecodeError("corrupt_container", "no frames")

    monkeypatch.setattr("indexing.serving.media.decoded_strip", failing)
    first, again = (asyncio.run(media.strip_jpeg(place(video))) for _ in range(2))
    assert first == again
    assert len(calls) == 1
    assert media._cache.currsize == 0  # or the grey strip would stay when the video is well again


def test_a_trim_that_nobody_waits_for_is_ended(media: Media, video: Path, monkeypatch) -> None:
    started, ended = threading.Event(), threading.Event()

    def endless(*_: object, is_cancelled: Callable[[], bool], **__: object) -> None:
        started.set()
        while not is_cancelled():
            time.sleep(0.01)
        ended.set()
        raise DecodeError("decode_timeout", "was cancelled")

    monkeypatch.setattr("indexing.serving.media.trim_video", endless)

    async def test() -> None:
        task = asyncio.create_task(media.trimmed_mp4(place(video)))
        await asyncio.to_thread(started.wait, 5)
        task.cancel()
        assert await asyncio.to_thread(ended.wait, 5)

    asyncio.run(test())


def test_a_strip_that_nobody_waits_for_is_ended_and_the_next_is_drawn(
    media: Media, video: Path, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "planted.py").write_text(HANGS_WHILE_MARKED.format(mark=str(tmp_path / "mark")))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    media._decoder = IsolatedDecoder(deadline_s=20, decode_function="planted:decode")

    async def test() -> None:
        task = asyncio.create_task(media.strip_jpeg(place(video)))
        while not (tmp_path / "mark").exists():
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait({task})
        strip = await asyncio.wait_for(media.strip_jpeg(place(video)), 10)
        assert strip[:2] == b"\xff\xd8"
        assert media._failed.currsize == 0

    asyncio.run(test())
