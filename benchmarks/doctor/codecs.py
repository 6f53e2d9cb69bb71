"""Video codecs that can be decoded here, and by what; a child of `tfcovr doctor` that prints JSON.

The decoders' libraries are loaded for real; one that cannot be loaded is a finding, one that crashes is the parent's.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.doctor.packages import pip_line

# What the dive archive and the tests can be written with.
_WRITERS = ("libx264", "libvpx-vp9", "libsvtav1", "mjpeg")
# Decoder's file -> its name in the report, and what installs it.
_FILES = {
    "encoders.decoding.pyav_video": ("PyAV", ""),
    "encoders.decoding.dali_video": ("DALI", "dali"),
}


def find_codecs(*, has_gpu: bool) -> list[dict[str, Any]]:
    """One line for each decoder: what it decodes on which device, or why it does not load."""
    rows = []
    for module, (name, extra) in _FILES.items():
        try:
            decoder = importlib.import_module(module)
        except (ImportError, OSError) as error:
            text = str(error).splitlines()[0]
            rows.append({"name": name, "is_ok": False, "detail": text, "fix": pip_line(extra)})
            continue
        rows += _pyav_rows(decoder) if name == "PyAV" else _dali_rows(decoder, has_gpu=has_gpu)
    return rows


def _pyav_rows(decoder: Any) -> list[dict[str, Any]]:
    from encoders.media.container import ALLOWED_DECODERS

    built_in = set(decoder.av.codecs_available)
    decoders = sorted(built_in & set(ALLOWED_DECODERS))
    writers = [name for name in _WRITERS if name in built_in]
    return [
        {"name": "PyAV decodes", "is_ok": "h264" in decoders, "detail": ", ".join(decoders)},
        {
            "name": "PyAV writes",
            "is_ok": "libx264" in writers,
            "detail": ", ".join(writers) or "nothing",
            "fix": "pip install --force-reinstall av (its wheel brings libx264)",
        },
    ]


def _dali_rows(decoder: Any, *, has_gpu: bool) -> list[dict[str, Any]]:
    on_cpu, on_gpu = (", ".join(sorted(c)) for c in (decoder.CPU_CODECS, decoder.GPU_CODECS))
    return [
        {"name": "DALI on the CPU", "is_ok": True, "detail": f"{on_cpu}; all else goes to PyAV"},
        {
            "name": "DALI on NVDEC",
            "is_ok": has_gpu,
            "detail": on_gpu if has_gpu else f"needs a GPU, then: {on_gpu}",
            "fix": "" if has_gpu else "decoding runs on the CPU",
        },
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Write the findings as JSON."""
    parser = argparse.ArgumentParser(description="Which video codecs can be decoded here.")
    parser.add_argument("--gpu", action="store_true", help="there is an NVIDIA GPU")
    options = parser.parse_args(argv)
    sys.stdout.write(json.dumps(find_codecs(has_gpu=options.gpu)) + "\n")


if __name__ == "__main__":
    main()
