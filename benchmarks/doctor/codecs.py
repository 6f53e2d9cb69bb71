"""Video codecs that can be decoded here, and by what; a child of `tfcovr doctor` that prints JSON.

The decoders' libraries are loaded for real; one that cannot be loaded is a finding, one that crashes is the parent's.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.doctor.packages import pip_line
from encoders.decoding.backends import DECODE_BACKENDS, DEFAULT_DECODE_BACKEND, DeviceKind

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
    return {
        "name": f"{backend.label} on a GPU",
        "is_ok": has_gpu,
        "detail": detail if has_gpu else f"needs a GPU, then: {detail}",
        "fix": "" if has_gpu else "decoding runs on the CPU",
    }


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
