"""A span of a video as an MP4 of its own, exact to the frame: decoded and encoded again, in a process with a deadline.

The file is opened, checked and planned as for indexing (`encoders.decoding.pyav_video`), so that the frames are those that a clip stands for.
"""

import argparse
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, cast, get_args

from encoders.decoding.sandbox.process import DEFAULT_MEMORY_LIMIT_BYTES, nice_prefix
from encoders.media.container import MediaLimits
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
    # The encoder would take all cores; queries come first.
    command = [*nice_prefix(_NICENESS), sys.executable, "-P", "-m", "encoders.decoding.trim"]
    command += ["--video", str(video)]
    command += [f"--start-s={start_s!r}", "--out", str(out), f"--deadline-s={deadline_s!r}"]
    command += [] if end_s is None else [f"--end-s={end_s!r}"]
    paths = [str(_SOURCE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    with subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as child:
        try:
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
    from encoders.decoding.pyav_video import PyavVideo  # av only where it decodes

    with closing(PyavVideo(video, MediaLimits())) as source:
        numbers = frames_in_span(source.index, span)
        if not numbers:
            raise DecodeError("span_outside_video", f"no frame in [{span.start_s:g}, {span.end_s})")
        times_s = source.index.shown_times_s
        _check_length(float(times_s[numbers[-1]] - times_s[numbers[0]]))
        _encode(source, numbers, out)


def _encode(source: Any, numbers: range, out: Path) -> None:
    """Frames keep their distances in time, whatever the video's rate does."""
    import av

    times_s = source.index.shown_times_s
    with av.open(str(out), "w", format="mp4", options={"movflags": "faststart"}) as writer:
        stream: Any = None
        for number, frame_HWC in source.read_frames(numbers):
            if frame_HWC is None:
                raise DecodeError("corrupt_container", f"frame {number} cannot be decoded")
            if stream is None:
                stream = cast("Any", writer).add_stream(
                    "libx264",
                    rate=_usual_rate(source.index),
                    options={"crf": "20", "preset": "veryfast"},
                )
                height, width = (max(side // 2 * 2, 2) for side in frame_HWC.shape[:2])
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.time_base = Fraction(1, _TICKS_PER_S)
            frame = av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")
            frame = frame.reformat(stream.width, stream.height, "yuv420p")
            frame.pts = round((times_s[number] - times_s[numbers[0]]) * _TICKS_PER_S)
            frame.time_base = Fraction(1, _TICKS_PER_S)
            writer.mux(stream.encode(frame))
        writer.mux(stream.encode(None))


def _usual_rate(index: FrameIndex) -> Fraction:
    """Frames per second over the whole video: what the encoder shares its bits out by."""
    seconds = float(index.shown_times_s[-1])
    rate = (index.num_frames - 1) / seconds if seconds > 0 else 25.0
    return Fraction(min(max(rate, 1.0), MediaLimits().max_frame_rate)).limit_denominator(1001)


def _check_length(seconds: float) -> None:
    if not 0 <= seconds <= MAX_SPAN_S:
        raise DecodeError("limit_exceeded", f"a span may have at most {MAX_SPAN_S:g} s")


def main() -> None:
    """The child: limits on itself first, and an alarm for when its parent is gone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--start-s", type=float, required=True)
    parser.add_argument("--end-s", type=float, default=None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--deadline-s", type=float, required=True)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = DEFAULT_MEMORY_LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.alarm(math.ceil(arguments.deadline_s))
    try:
        span = Span(start_s=arguments.start_s, end_s=arguments.end_s)
        _write_span(arguments.video, span, arguments.out)
    except DecodeError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(_REFUSED) from error


if __name__ == "__main__":
    main()
