"""PyNvVideoCodec's way through a file, with NVDEC replaced by FFmpeg's decoder behind the same calls: packets in, numbered NV12 out."""

import ctypes
import sys
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from encoders.decoding.decode import decode_clips
from encoders.decoding.nvidia import hardware_video, pynv_video
from encoders.decoding.nvidia.trust import TrustedKinds
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig

SIZE = {"width": 160, "height": 144}
SPANS = [Span(start_s=1, end_s=None), Span(start_s=0.2, end_s=1.4), Span(start_s=0, end_s=0.12)]
SAMPLING = SamplingConfig(num_frames=7, frame_size=None)


class Frame:
    def __init__(self, frame):
        self._number = frame.pts
        self._nv12 = torch.from_numpy(frame.reformat(format="nv12").to_ndarray())

    def getPTS(self):  # noqa: N802 - the library's name
        return self._number

    def __dlpack__(self, **others):
        return self._nv12.__dlpack__(**others)

    def __dlpack_device__(self):
        return self._nv12.__dlpack_device__()


class Decoder:
    """An elementary stream, which has parameter sets before its keyframes, in; frames in display order out."""

    def __init__(self, *, gpuid, codec, usedevicememory, outputColorType):
        assert (gpuid, usedevicememory, outputColorType) == (0, True, "native")
        self._name = codec
        self._context = av.CodecContext.create(codec, "r")

    def Decode(self, packet):  # noqa: N802
        if not packet.bsl:
            frames = self._context.decode(None)
            self._context = av.CodecContext.create(self._name, "r")
            return [Frame(frame) for frame in frames]
        data = av.Packet(ctypes.string_at(packet.bsl_data, packet.bsl))
        data.pts = packet.pts
        return [Frame(frame) for frame in self._context.decode(data)]


@pytest.fixture
def made(monkeypatch):
    """The fake library in place, on a "GPU" whose memory is the host's; the decoders that were made."""
    decoders = []
    library = SimpleNamespace(
        CreateDecoder=lambda **options: decoders.append(Decoder(**options)) or decoders[-1],
        PacketData=lambda: SimpleNamespace(bsl=0, bsl_data=0, pts=0),
        OutputColorType=SimpleNamespace(NATIVE="native"),
        cudaVideoCodec=SimpleNamespace(H264="h264", HEVC="hevc"),
    )
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", library)
    pynv_video._library.cache_clear()
    monkeypatch.setattr(pynv_video.PynvVideo, "trusted", TrustedKinds())
    yield decoders
    pynv_video._library.cache_clear()


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("h264.mp4", {}),
        ("h264.mkv", {"options": {"g": "10", "bf": "3"}}),
        ("hevc.mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=20"}}),
        ("turned.mp4", {"rotation": 90}),
    ],
)
def test_the_frames_are_those_of_pyav(made, make_video, name, spec):
    path = make_video(name, picture="gradient", **SIZE, **spec)
    found = decode_clips(path, SPANS, SAMPLING, backend="pynv", device="cuda")
    expected = decode_clips(path, SPANS, SAMPLING)
    assert (found.backend_used, found.fallback_reason) == ("pynv", None)
    assert made
    np.testing.assert_array_equal(found.frame_indices_NT, expected.frame_indices_NT)
    difference = np.abs(found.frames_NTHWC.astype(int) - expected.frames_NTHWC)
    assert np.percentile(difference, 99.9) <= 2
    assert difference.mean() < 0.5


def test_the_frame_numbers_are_right(made, make_video, numbers_in):
    path = make_video("h264_numbers.mp4", **SIZE)
    found = decode_clips(path, SPANS, SAMPLING, backend="pynv", device="cuda")
    assert found.backend_used == "pynv"
    assert [numbers_in(clip) for clip in found.frames_NTHWC] == found.frame_indices_NT.tolist()


def test_a_library_that_shifts_frames_is_found_out(made, make_video, monkeypatch):
    monkeypatch.setattr(Frame, "getPTS", lambda self: self._number - 1)
    path = make_video("h264.mp4", picture="gradient", **SIZE)
    found = decode_clips(path, SPANS[1:2], SAMPLING, backend="pynv", device="cuda")
    assert found.backend_used == "pyav"
    assert "frame away" in (found.fallback_reason or "") or "levels" in (
        found.fallback_reason or ""
    )


# From 200 bytes before the end of a packet on; the file keeps its length, and its tables their places.
DAMAGE = {
    "zeros": lambda piece: bytes(len(piece)),
    "lost": lambda piece: piece[300:] + b"U" * 300,
    "doubled": lambda piece: piece[:300] + piece[:-300],
}


@pytest.mark.parametrize("damage", list(DAMAGE))
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_damage_is_left_to_the_cpu_which_tells_it(made, make_video, tmp_path, codec, damage):
    """NVDEC would conceal it: here a decoder that shows whatever it has."""
    options = {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=20"}}
    path = make_video(
        "sound.mp4", picture="gradient", **SIZE, **(options if codec == "hevc" else {})
    )
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    largest = max(packets[5:-5], key=lambda packet: packet.size)
    assert largest.pos is not None
    start = largest.pos + largest.size - 200
    data[start : start + 700] = DAMAGE[damage](data[start : start + 700])
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    found = decode_clips(damaged, SPANS, SAMPLING, backend="pynv", device="cuda")
    expected = decode_clips(damaged, SPANS, SAMPLING)
    assert found.backend_used == "pyav"
    # Which one depends on the bytes that the encoder made.
    reasons = ("damaged packets", "cut off", "do not tell which frames")
    assert any(reason in (found.fallback_reason or "") for reason in reasons)
    assert list(map(str, found.errors)) == list(map(str, expected.errors))
    np.testing.assert_array_equal(found.frames_NTHWC, expected.frames_NTHWC)


def test_a_lost_gpu_is_no_fallback(made, make_video, monkeypatch):
    from encoders.media.errors import DeviceLostError

    def lost(*_others):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(Decoder, "Decode", lost)
    path = make_video("h264.mp4", picture="gradient", **SIZE)
    with pytest.raises(DeviceLostError, match="h264 High yuv420p"):
        decode_clips(path, SPANS, SAMPLING, backend="pynv", device="cuda")


def test_it_decodes_on_gpus_only_and_names_its_extra(make_video, monkeypatch):
    path = make_video("h264.mp4", picture="gradient", **SIZE)
    found = decode_clips(path, SPANS, SAMPLING, backend="pynv")
    assert found.fallback_reason == "pynv decodes on a GPU only"
    monkeypatch.setitem(sys.modules, "PyNvVideoCodec", None)
    pynv_video._library.cache_clear()
    with pytest.raises(ImportError, match=r"pip install .*\[pynv\]"):
        decode_clips(path, SPANS, SAMPLING, backend="pynv", device="cuda")


@pytest.mark.parametrize("is_full_range", [False, True])
def test_nv12_to_rgb_is_what_the_cpu_makes(is_full_range):
    from encoders.decoding.frames.converter import FrameConverter

    rng = np.random.default_rng(0)
    small = rng.integers(40, 200, (9, 10, 3)).astype(np.uint8)
    rgb = np.asarray(
        torch.nn.functional.interpolate(
            torch.from_numpy(small).permute(2, 0, 1)[None].float(), (72, 80), mode="bicubic"
        )[0]
        .permute(1, 2, 0)
        .clamp(0, 255)
        .round()
        .to(torch.uint8)
    )
    name = "yuvj420p" if is_full_range else "yuv420p"
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=name)
    expected = FrameConverter().rgb_frame(frame)
    luma, cb, cr = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[
            :, : plane.width
        ]
        for plane in frame.planes
    )
    nv12 = np.concatenate([luma, np.stack([cb, cr], -1).reshape(36, 80)])
    found = pynv_video.nv12_to_rgb(torch.from_numpy(nv12), 72, 80, is_full_range=is_full_range)
    assert np.abs(found.numpy().astype(int) - expected).max() <= 2


def test_runs_are_long_where_the_gpu_has_memory(monkeypatch):
    video = object.__new__(pynv_video.PynvVideo)
    video._keeps_on_device, video._device_id = True, 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for free_gib, expected in ((140, 2 << 30), (40, (40 << 30) // 64), (8, 256 << 20)):
        free = (free_gib << 30, 0)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device, free=free: free)
        assert video._run_bytes() == expected
    video._keeps_on_device = False
    assert video._run_bytes() == hardware_video._HOST_RUN_BYTES
