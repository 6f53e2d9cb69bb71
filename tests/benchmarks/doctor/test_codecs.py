"""A decoder is said to work where it has decoded a clip to the CPU's frames, and otherwise what kept it from that."""

import pytest

from benchmarks.doctor import codecs
from encoders.decoding.backends import DECODE_BACKENDS

pytest.importorskip("nvidia.dali", reason="the extra `dali` is not installed")


def test_a_clip_is_decoded_and_measured_or_the_reason_is_told():
    is_ok, measured = codecs.decode_one_clip("dali", "cpu", codec="vp9")
    assert is_ok
    assert measured.startswith("16 frames of vp9 in ")
    assert measured.endswith(" ms, 0.0 levels from the CPU's")
    assert codecs.decode_one_clip("dali", "cpu") == (
        False,
        "does not decode h264: dali does not decode h264 on a CPU",
    )


def test_a_gpu_alone_is_no_proof(monkeypatch):
    assert "dali" in DECODE_BACKENDS
    monkeypatch.setattr(
        codecs, "decode_one_clip", lambda name, device: (False, f"{name} {device} fails")
    )
    rows = {row["name"]: row for row in codecs.find_codecs(has_gpu=True)}
    assert not rows["DALI on a GPU"]["is_ok"]
    assert rows["DALI on a GPU"]["detail"].endswith("; dali cuda fails")
    assert "NVIDIA_DRIVER_CAPABILITIES" in rows["DALI on a GPU"]["fix"]
    without = {row["name"]: row for row in codecs.find_codecs(has_gpu=False)}
    assert without["DALI on a GPU"]["detail"].startswith("needs a GPU")
