"""The killable child with planted faults: whatever happens in it costs one video and is named."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from encoders.clips import Clip
from encoders.decoding import decode
from encoders.decoding.decode import decode_clips, iter_spans
from encoders.decoding.isolated import IsolatedDecoder, iter_clip_frames
from encoders.decoding.request import DecodeRequest
from encoders.decoding.sandbox import process
from encoders.media.errors import DecodeError, DecodeSetupError
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig

# Stands where FFmpeg would be: the name of the video says what goes wrong after the first span.
PLANTED = """
import ctypes, os, signal, time
import numpy as np
from encoders.decoding.decode import DecodedSpan
from encoders.media.errors import DecodeError, DecodeSetupError

def span(number, value=7):
    return DecodedSpan(number=number, frames_THWC=np.full((2, 8, 8, 3), value, np.uint8),
                       frame_indices_T=np.array([number, number + 1]), error=None,
                       backend_used="pyav", fallback_reason=None, num_frames_decoded=2)

def faulty(request):
    yield span(0)
    match request.video:
        case "abort": os.abort()
        case "exit": os._exit(3)
        case "hang": time.sleep(1000)
        case "hang_holding_the_interpreter": ctypes.PyDLL(None).sleep(1000)
        case "eat_memory": bytearray(2 << 30)
        case "python_error": raise TypeError("planted")
        case "lost_gpu": raise RuntimeError("CUDA error: an illegal memory access was encountered")
        case "bad_video": raise DecodeError("codec_unsupported", "planted")
        case "broken_setup": raise DecodeSetupError("planted")
        case "large":
            yield span(1, 9)
            yield DecodedSpan(number=2, frames_THWC=np.zeros((4, 1000, 1000, 3), np.uint8),
                              frame_indices_T=np.arange(4), error=None, backend_used="pyav",
                              fallback_reason=None, num_frames_decoded=2)
        case "pid": yield span(os.getpid())
"""


@pytest.fixture
def decoder(tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text(textwrap.dedent(PLANTED))
    (tmp_path / "dies_at_import.py").write_text("import os\nos._exit(4)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with IsolatedDecoder(
        deadline_s=1.0, memory_limit_bytes=1 << 30, decode_function="planted:faulty"
    ) as decoder:
        yield decoder


def request(video: str) -> DecodeRequest:
    return DecodeRequest(
        video=video,
        spans=(Span(start_s=0, end_s=1), Span(start_s=0.5, end_s=None)),
        sampling=SamplingConfig(num_frames=2, frame_size=8),
    )


@pytest.mark.parametrize(
    ("video", "reason", "detail"),
    [
        ("abort", "decoder_crashed", "SIGABRT"),
        ("exit", "decoder_crashed", "exit status 3"),
        ("hang", "decode_timeout", "1 s"),
        ("hang_holding_the_interpreter", "decode_timeout", "1 s"),
        ("eat_memory", "limit_exceeded", "memory"),
        ("python_error", "decoder_crashed", "TypeError: planted"),
        ("lost_gpu", "decoder_crashed", "the GPU refused all further work"),
        ("bad_video", "codec_unsupported", "planted"),
    ],
)
def test_a_fault_costs_the_rest_of_one_video(decoder, video, reason, detail):
    spans = decoder.iter_spans(request(video))
    assert next(spans).frames_THWC is not None, "what came before the fault is good"
    with pytest.raises(DecodeError) as error:
        next(spans)
    assert error.value.reason == reason
    assert detail in error.value.detail
    assert [span.number for span in decoder.iter_spans(request("good"))] == [0]


def test_the_child_is_kept_between_videos(decoder):
    pids = {list(decoder.iter_spans(request("pid")))[1].number for _ in range(3)}
    assert len(pids) == 1
    assert pids != {os.getpid()}


def test_a_reader_that_leaves_early_gets_no_stale_frames(decoder):
    spans = decoder.iter_spans(request("large"))
    next(spans)
    spans.close()
    assert [span.number for span in decoder.iter_spans(request("good"))] == [0]


def test_a_slow_reader_is_no_hang(decoder):
    numbers = []
    for span in decoder.iter_spans(request("large")):
        numbers.append(span.number)
        time.sleep(1.2 if span.number == 1 else 0)
    assert numbers == [0, 1, 2]


def test_a_broken_setup_is_raised_at_once(decoder):
    with pytest.raises(DecodeSetupError, match="planted"):
        list(decoder.iter_spans(request("broken_setup")))
    missing = IsolatedDecoder(deadline_s=1, decode_function="no_such_module:f")
    with pytest.raises(ImportError, match="no_such_module"):
        list(missing.iter_spans(request("good")))
    dying = IsolatedDecoder(deadline_s=1, decode_function="dies_at_import:f")
    with pytest.raises(DecodeSetupError, match=r"cannot start: decoder_crashed: .* exit status 4"):
        list(dying.iter_spans(request("good")))


@pytest.mark.parametrize("num_kills", [1, 5])
def test_a_child_that_is_killed_at_its_start_is_started_again(
    decoder, tmp_path, monkeypatch, num_kills
):
    """As by the kernel where memory is short for a moment; for good, it is a broken setup."""
    (tmp_path / "killed_at_start.py").write_text(
        "import os, pathlib, signal\n"
        f"starts = pathlib.Path({str(tmp_path / 'starts')!r})\n"
        "with starts.open('a') as file:\n"
        "    file.write('x')\n"
        f"if len(starts.read_text()) <= {num_kills}:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "from planted import faulty\n"
    )
    monkeypatch.setattr(process, "_PAUSES_S", (0.0, 0.0))
    with IsolatedDecoder(deadline_s=5, decode_function="killed_at_start:faulty") as killed:
        if num_kills == 1:
            assert [span.number for span in killed.iter_spans(request("good"))] == [0]
        else:
            with pytest.raises(DecodeSetupError, match=r"cannot start: decoder_crashed: .*SIGKILL"):
                list(killed.iter_spans(request("good")))
    assert len((tmp_path / "starts").read_text()) == min(num_kills + 1, 3)


def test_what_the_first_request_loads_is_beside_the_memory_limit(tmp_path, monkeypatch):
    """An encoder of more than the limit is none of a video's doing."""
    (tmp_path / "loads.py").write_text(
        textwrap.dedent(PLANTED)
        + "held = []\n"
        + "def load_then_decode(request):\n"
        + "    if request.video == 'load': held.append(bytearray(1 << 30))\n"
        + "    yield from faulty(request)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with IsolatedDecoder(
        deadline_s=10,
        memory_limit_bytes=1 << 29,
        decode_function="loads:load_then_decode",
        first_request=request("load"),
    ) as decoder:
        assert len(list(decoder.iter_spans(request("good")))) == 1
        with pytest.raises(DecodeError, match="limit_exceeded"):
            list(decoder.iter_spans(request("eat_memory")))


def test_isolated_equals_direct(make_video):
    video = str(make_video("a.mp4", num_frames=60))
    wanted = DecodeRequest(
        video=video,
        spans=(Span(start_s=1, end_s=2), Span(start_s=0, end_s=1.5), Span(start_s=9, end_s=10)),
        sampling=SamplingConfig(num_frames=5, frame_size=32),
        jitter_seed=3,
    )
    with IsolatedDecoder(deadline_s=30) as isolated:
        pairs = list(zip(isolated.iter_spans(wanted), iter_spans(wanted), strict=True))
    for ours, theirs in pairs:
        assert str(ours.error) == str(theirs.error)
        assert (ours.number, ours.num_frames_decoded) == (theirs.number, theirs.num_frames_decoded)
        np.testing.assert_array_equal(ours.frames_THWC, theirs.frames_THWC)
        np.testing.assert_array_equal(ours.frame_indices_T, theirs.frame_indices_T)


def test_a_whole_video_as_one_block(make_video):
    spans = [Span(start_s=1, end_s=2), Span(start_s=9, end_s=10), Span(start_s=0, end_s=1.5)]
    sampling = SamplingConfig(num_frames=5, frame_size=32)
    video = make_video("a.mp4", num_frames=60)
    wanted = DecodeRequest(video=str(video), spans=tuple(spans), sampling=sampling)
    with IsolatedDecoder(deadline_s=30) as isolated:
        block = isolated.decode(wanted)
    direct = decode_clips(video, spans, sampling)
    np.testing.assert_array_equal(block.frames_NTHWC, direct.frames_NTHWC)
    assert [str(error) for error in block.errors] == [str(error) for error in direct.errors]


def test_the_child_ends_with_a_killed_parent(tmp_path):
    (tmp_path / "planted.py").write_text(textwrap.dedent(PLANTED))
    script = """
        import os, sys
        from tests_request import request
        from encoders.decoding.isolated import IsolatedDecoder
        decoder = IsolatedDecoder(deadline_s=1000, decode_function="planted:faulty")
        spans = decoder.iter_spans(request)
        next(spans)
        print(decoder._child._process.pid, flush=True)
        next(spans)
    """
    (tmp_path / "tests_request.py").write_text(
        "from encoders.decoding.decode import *\nfrom encoders.media.sampling import SamplingConfig\n"
        "request = DecodeRequest(video='hang', spans=(Span(start_s=0, end_s=1),),"
        " sampling=SamplingConfig(num_frames=2, frame_size=8))"
    )
    root = Path(__file__).resolve().parents[3]
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"},
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs([child], timeout=10)
    assert not alive


def test_every_clip_comes_with_its_frames_or_its_reason(
    make_video, numbers_in, tmp_path, monkeypatch
):
    (tmp_path / "bad.mp4").write_text("no video")
    good = str(make_video("good.mp4"))
    clips = [
        Clip(clip_id="bad", video_uri=str(tmp_path / "bad.mp4")),
        Clip(clip_id="outside", video_uri=good, start_s=90, end_s=91),
        Clip(clip_id="good", video_uri=good, start_s=0.4, end_s=0.6),
    ]
    monkeypatch.setattr(decode, "decode_backend", None)  # nothing can be decoded in this process
    found = list(iter_clip_frames(clips, SamplingConfig(num_frames=5, frame_size=None)))
    assert [clip.clip_id for clip, _ in found] == ["bad", "outside", "good"]
    reasons = [error.reason for _, error in found[:2] if isinstance(error, DecodeError)]
    assert reasons == ["container_not_allowed", "span_outside_video"]
    assert isinstance(found[2][1], np.ndarray)
    assert numbers_in(found[2][1]) == [10, 11, 12, 13, 14]
