"""A span of a video as an MP4 of its own, exact to the frame: decoded and encoded again, in a process that can be killed."""

import argparse
import os
import resource
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

from encoders.media import ALLOWED_DECODERS, DecodeError, MediaLimits, open_options

MAX_SPAN_S = 120.0
_MEMORY_BYTES = 2 << 30
_SOURCE_ROOT = Path(__file__).resolve().parent.parent


def trim_video(
    video: Path, *, start_s: float, end_s: float | None, out: Path, deadline_s: float = 30.0
) -> None:
    """Write frames with start_s <= time < end_s to `out`. DecodeError where the file or the time does not allow it."""
    if end_s is not None and not 0 < end_s - start_s <= MAX_SPAN_S:
        raise DecodeError("limit_exceeded", f"a span may have at most {MAX_SPAN_S:g} s")
    command = [sys.executable, "-P", "-m", "encoders.trim", "--video", str(video)]
    command += ["--start-s", repr(start_s), "--out", str(out)]
    command += [] if end_s is None else ["--end-s", repr(end_s)]
    paths = [str(_SOURCE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=deadline_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DecodeError("decode_timeout", f"trimming took more than {deadline_s:g} s") from None
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise DecodeError("decoder_crashed", "".join(last) or f"status {done.returncode}")


def _write_span(video: Path, start_s: float, end_s: float, out: Path) -> None:
    import av

    limits = MediaLimits()
    with (
        video.open("rb") as source,
        av.open(source, "r", options=open_options(limits)) as reader,
        av.open(str(out), "w", format="mp4", options={"movflags": "faststart"}) as writer,
    ):
        stream = reader.streams.video[0]
        if stream.codec_context.name not in ALLOWED_DECODERS:
            raise ValueError(f"codec {stream.codec_context.name} is not allowed")
        limits.check(max_pixels=stream.width * stream.height)
        rate = Fraction(stream.average_rate or 25)
        if start_s > 0 and stream.time_base:
            reader.seek(int(start_s / stream.time_base), stream=stream)
        target = writer.add_stream(
            "libx264", rate=rate, options={"crf": "20", "preset": "veryfast"}
        )
        target.width, target.height = stream.width // 2 * 2, stream.height // 2 * 2
        target.pix_fmt = "yuv420p"
        for frame in reader.decode(stream):
            if frame.time is None or frame.time < start_s - 1e-6:
                continue
            if frame.time >= end_s:
                break
            frame = frame.reformat(target.width, target.height, "yuv420p")
            frame.pts = round((frame.time - start_s) * rate)
            frame.time_base = 1 / rate
            writer.mux(target.encode(frame))
        writer.mux(target.encode(None))


def main() -> None:
    """The child: limits on itself first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--start-s", type=float, required=True)
    parser.add_argument("--end-s", type=float, default=None)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    start_s: float = arguments.start_s
    end_s = start_s + MAX_SPAN_S if arguments.end_s is None else arguments.end_s
    _write_span(arguments.video, start_s, end_s, arguments.out)


if __name__ == "__main__":
    main()
