"""Spans of videos as an MP4, one span or a reel of several, exact to the frame: decoded and encoded again, in a process with a deadline.

The file is opened, checked and planned as for indexing (`encoders.decoding.pyav_video`), so that the frames are those that a clip stands for.
"""

import argparse
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

from encoders.decoding.sandbox.process import DEFAULT_MEMORY_LIMIT_BYTES, nice_prefix
from encoders.media.container import LIMITS_OF_AN_ARCHIVE
from encoders.media.errors import DecodeError, DecodeReason
from encoders.media.frame_index import FrameIndex, Span, frames_in_span

MAX_SPAN_S = 120.0
_TICKS_PER_S = 90_000
_REFUSED = 3
_POLL_S = 0.2
_NICENESS = 10
_SOURCE_ROOT = Path(__file__).resolve().parent.parent.parent


def trim_video(
    video: Path,
    *,
    start_s: float,
    end_s: float | None,
    out: Path,
    deadline_s: float = 30.0,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Write frames with start_s <= time < end_s to `out`. DecodeError where the file, the time or `is_cancelled` does not allow it."""
    if end_s is not None:
        _check_length(end_s - start_s)
    try:
        Span(start_s=start_s, end_s=end_s)
    except ValueError as error:
        raise DecodeError("span_outside_video", str(error)) from error
    arguments = ["--video", str(video), f"--start-s={start_s!r}"]
    arguments += [] if end_s is None else [f"--end-s={end_s!r}"]
    # The encoder would take all cores; queries come first.
    _run_child([*nice_prefix(_NICENESS)], arguments, out, deadline_s, is_cancelled)


def join_frames(
    frames: Sequence[tuple[Path, range]],
    out: Path,
    *,
    deadline_s: float,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Write frames of videos one after the other to `out`, without sound; sizes other than the first one's get black bars.

    DecodeError where a file, the time or `is_cancelled` does not allow it.
    """
    spans = [[str(video), numbers.start, numbers.stop] for video, numbers in frames]
    _run_child([], ["--joined"], out, deadline_s, is_cancelled, text=json.dumps(spans))


def _run_child(  # what the two ways to call it differ in
    prefix: Sequence[str],
    arguments: Sequence[str],
    out: Path,
    deadline_s: float,
    is_cancelled: Callable[[], bool],
    text: str = "",
) -> None:
    command = [*prefix, sys.executable, "-P", "-m", "encoders.decoding.trim"]
    command += [*arguments, "--out", str(out), f"--deadline-s={deadline_s!r}"]
    paths = [str(_SOURCE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as child:
        try:
            assert child.stdin is not None
            child.stdin.write(text.encode())
            child.stdin.close()
            child.stdin = None
            stderr = _wait(child, deadline_s, is_cancelled)
        finally:
            child.kill()
    last = "".join(stderr.decode(errors="replace").strip().splitlines()[-1:])
    reason, _, detail = last.partition(": ")
    if child.returncode == _REFUSED and reason in get_args(DecodeReason):
        raise DecodeError(cast(DecodeReason, reason), detail)
    if child.returncode != 0:
        raise DecodeError("decoder_crashed", last or f"status {child.returncode}")


def _wait(
    child: "subprocess.Popen[bytes]", deadline_s: float, is_cancelled: Callable[[], bool]
) -> bytes:
    """What the child wrote to stderr once it has ended."""
    give_up_s = time.monotonic() + deadline_s
    while time.monotonic() < give_up_s and not is_cancelled():
        with suppress(subprocess.TimeoutExpired):
            return child.communicate(timeout=_POLL_S)[1]
    detail = "was cancelled" if is_cancelled() else f"took more than {deadline_s:g} s"
    raise DecodeError("decode_timeout", f"trimming {detail}")


def _write_span(video: Path, span: Span, out: Path) -> None:
    with closing(_open_video(video)) as source, closing(_Joined(out)) as joined:
        numbers = frames_in_span(source.index, span)
        if not numbers:
            raise DecodeError("span_outside_video", f"no frame in [{span.start_s:g}, {span.end_s})")
        times_s = source.index.shown_times_s
        _check_length(float(times_s[numbers[-1]] - times_s[numbers[0]]))
        joined.add(source, numbers)


def _write_joined(spans: Sequence[tuple[str, int, int]], out: Path) -> None:
    with closing(_Joined(out)) as joined:
        for name, first, stop in spans:
            with closing(_open_video(Path(name))) as source:
                if not 0 <= first < stop <= source.index.num_frames:
                    raise DecodeError("span_outside_video", f"{name}: no frames {first} to {stop}")
                joined.add(source, range(first, stop))


def _open_video(video: Path) -> Any:
    from encoders.decoding.pyav_video import PyavVideo  # av only where it decodes

    return PyavVideo(video, LIMITS_OF_AN_ARCHIVE)


class _Joined:
    """An MP4 of frames of one video or several; frames keep their distances in time, whatever a video's rate does."""

    def __init__(self, out: Path) -> None:
        import av

        self._writer: Any = av.open(str(out), "w", format="mp4", options={"movflags": "faststart"})
        self._stream: Any = None
        self._place_s = 0.0

    def add(self, source: Any, numbers: range) -> None:
        """Behind what there is."""
        import av

        times_s = source.index.shown_times_s
        for number, frame_HWC in source.read_frames(numbers):
            if frame_HWC is None:
                raise DecodeError("corrupt_container", f"frame {number} cannot be decoded")
            if self._stream is None:
                self._stream = self._open_stream(source.index, frame_HWC.shape)
            stream = self._stream
            fitted_HWC = _fitted(frame_HWC, stream.width, stream.height)
            frame = av.VideoFrame.from_ndarray(fitted_HWC, format="rgb24")
            frame = frame.reformat(stream.width, stream.height, "yuv420p")
            place_s = self._place_s + float(times_s[number] - times_s[numbers[0]])
            frame.pts = round(place_s * _TICKS_PER_S)
            frame.time_base = Fraction(1, _TICKS_PER_S)
            self._writer.mux(stream.encode(frame))
        last_s = float(times_s[numbers[-1]] - times_s[numbers[0]])
        self._place_s += last_s + 1 / float(_usual_rate(source.index))

    def _open_stream(self, index: FrameIndex, shape: tuple[int, ...]) -> Any:
        options = {"crf": "20", "preset": "veryfast"}
        stream = self._writer.add_stream("libx264", rate=_usual_rate(index), options=options)
        stream.height, stream.width = (max(side // 2 * 2, 2) for side in shape[:2])
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)
        return stream

    def close(self) -> None:
        """Finish the file."""
        if self._stream is not None:
            self._writer.mux(self._stream.encode(None))
        self._writer.close()


def _fitted(frame_HWC: np.ndarray, width: int, height: int) -> np.ndarray:
    """The frame as it is where it has that size or one pixel more; else as large as fits, on black."""
    own_height, own_width = frame_HWC.shape[:2]
    if own_width // 2 * 2 == width and own_height // 2 * 2 == height:
        return frame_HWC
    import av

    scale = min(width / own_width, height / own_height)
    inner_width, inner_height = (
        min(max(round(own * scale / 2) * 2, 2), most)
        for own, most in ((own_width, width), (own_height, height))
    )
    inner = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
    fitted_HWC = np.zeros((height, width, 3), np.uint8)
    top, left = (height - inner_height) // 2, (width - inner_width) // 2
    fitted_HWC[top : top + inner_height, left : left + inner_width] = inner.reformat(
        inner_width, inner_height, "rgb24"
    ).to_ndarray()
    return fitted_HWC


def _usual_rate(index: FrameIndex) -> Fraction:
    """Frames per second over the whole video: what the encoder shares its bits out by."""
    seconds = float(index.shown_times_s[-1])
    rate = (index.num_frames - 1) / seconds if seconds > 0 else 25.0
    return Fraction(min(max(rate, 1.0), LIMITS_OF_AN_ARCHIVE.max_frame_rate)).limit_denominator(
        1001
    )


def _check_length(seconds: float) -> None:
    if not 0 <= seconds <= MAX_SPAN_S:
        raise DecodeError("limit_exceeded", f"a span may have at most {MAX_SPAN_S:g} s")


def main() -> None:
    """The child: limits on itself first, and an alarm for when its parent is gone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--joined", action="store_true", help="[video, first, stop] in stdin")
    parser.add_argument("--video", type=Path)
    parser.add_argument("--start-s", type=float)
    parser.add_argument("--end-s", type=float, default=None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--deadline-s", type=float, required=True)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = DEFAULT_MEMORY_LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.alarm(math.ceil(arguments.deadline_s))
    try:
        if arguments.joined:
            _write_joined(json.loads(sys.stdin.read()), arguments.out)
            return
        span = Span(start_s=arguments.start_s, end_s=arguments.end_s)
        _write_span(arguments.video, span, arguments.out)
    except DecodeError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(_REFUSED) from error


if __name__ == "__main__":
    main()
