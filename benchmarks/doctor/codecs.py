"""Video codecs that can be decoded here, and by what; a child of `tfcovr doctor` that prints JSON.

The decoders' libraries are loaded for real; one that cannot be loaded is a finding, one that crashes is the parent's.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.doctor.packages import pip_line
from encoders.decoding.backends import DECODE_BACKENDS, DEFAULT_DECODE_BACKEND, DeviceKind
from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig

_NUM_FRAMES = 16
_WRITERS = ("libx264", "libvpx-vp9", "libsvtav1", "mjpeg")


def find_codecs(*, has_gpu: bool) -> list[dict[str, Any]]:
    """One line for each decode backend and kind of device: what it decodes there, or why it does not load."""
    rows = []
    for name, backend in DECODE_BACKENDS.items():
        try:
            rows += [_codec_row(name, kind, has_gpu=has_gpu) for kind in backend.device_kinds]
        except (ImportError, OSError) as error:
            text = str(error).splitlines()[0]
            fix = pip_line(backend.extra)
            rows.append({"name": backend.label, "is_ok": False, "detail": text, "fix": fix})
        if name == DEFAULT_DECODE_BACKEND:
            rows += _writer_rows()
    return rows


def _codec_row(name: str, kind: DeviceKind, *, has_gpu: bool) -> dict[str, Any]:
    backend = DECODE_BACKENDS[name]
    codecs = sorted(backend.list_codecs(kind))
    detail = ", ".join(codecs)
    if name == DEFAULT_DECODE_BACKEND:  # it alone is always there, and h264 is what archives hold
        return {"name": f"{backend.label} decodes", "is_ok": "h264" in codecs, "detail": detail}
    default = DECODE_BACKENDS[DEFAULT_DECODE_BACKEND].label
    if kind == "cpu":
        detail = f"{detail}; all else goes to {default}"
        return {"name": f"{backend.label} on the CPU", "is_ok": bool(codecs), "detail": detail}
    row = {"name": f"{backend.label} on a GPU"}
    if not has_gpu:
        fix = "decoding runs on the CPU"
        return row | {"is_ok": False, "detail": f"needs a GPU, then: {detail}", "fix": fix}
    is_ok, measured = decode_one_clip(name, "cuda")
    fix = "a container needs the driver's video libraries: NVIDIA_DRIVER_CAPABILITIES=all"
    return row | {"is_ok": is_ok, "detail": f"{detail}; {measured}", "fix": "" if is_ok else fix}


def decode_one_clip(name: str, device: str, *, codec: str = "h264") -> tuple[bool, str]:
    """Whether a backend decodes a clip of moving colours there to the frames of the default backend, and what was measured or why not."""
    from benchmarks.dives.video import find_format, write_video
    from benchmarks.gpu.backends import draw_moving_colours
    from encoders.decoding.decode import decode_clips

    sampling = SamplingConfig(num_frames=8, frame_size=None)
    span = Span(start_s=0, end_s=None)
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / f"clip{find_format(codec).suffix}"
        write_video(video, [draw_moving_colours(num_frames=_NUM_FRAMES)], codec=codec)
        try:
            decode_clips(
                video, [span], sampling, backend=name, device=device
            )  # loads the libraries
            started = time.perf_counter()
            found = decode_clips(video, [span], sampling, backend=name, device=device)
            taken_ms = 1000 * (time.perf_counter() - started)
        except (DecodeError, RuntimeError, ValueError) as error:
            return False, f"does not decode {codec}: {str(error).splitlines()[0]}"
        expected = decode_clips(video, [span], sampling)
    if found.backend_used != name or found.errors[0] is not None:
        return False, f"does not decode {codec}: {found.fallback_reason or found.errors[0]}"
    difference = np.abs(found.frames_NTHWC.astype(np.int16) - expected.frames_NTHWC).mean()
    return (
        True,
        f"{_NUM_FRAMES} frames of {codec} in {taken_ms:.0f} ms, {difference:.1f} levels from the CPU's",
    )


def _writer_rows() -> list[dict[str, Any]]:
    """What the dive archive and the tests can be written with."""
    try:
        from encoders.decoding import pyav_video
    except (ImportError, OSError):
        return []
    writers = [name for name in _WRITERS if name in pyav_video.av.codecs_available]
    return [
        {
            "name": "PyAV writes",
            "is_ok": "libx264" in writers,
            "detail": ", ".join(writers) or "nothing",
            "fix": "pip install --force-reinstall av (its wheel brings libx264)",
        }
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Write the findings as JSON."""
    parser = argparse.ArgumentParser(description="Which video codecs can be decoded here.")
    parser.add_argument("--gpu", action="store_true", help="there is an NVIDIA GPU")
    options = parser.parse_args(argv)
    sys.stdout.write(json.dumps(find_codecs(has_gpu=options.gpu)) + "\n")


if __name__ == "__main__":
    main()
