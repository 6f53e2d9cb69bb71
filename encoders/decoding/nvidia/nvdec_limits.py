"""Which videos go to NVDEC: codecs that a record has compared with the CPU's frames, on GPUs that decode them.

Everything else is decoded on the CPU, for a reason in the same words for every video of a kind, because summaries count them.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from encoders.media.frame_index import FrameIndex

COMPARED_CODECS = frozenset({"h264", "hevc"})
"""Codecs that NVDEC decodes by default. Others need a record of `gpu_check` with the same frames: a packet of VP9 or AV1 that only
shows an earlier frame makes no decode callback, and frames after it may be numbered one too low."""
MORE_CODECS_VARIABLE = "TFCOVR_NVDEC_CODECS"
"""Environment variable with names of further codecs, such as "vp9,av1", for who wants to measure them."""
# Shortest and longest width and height that NVDEC takes on any GPU since Pascal (NVDEC Video Decoder API Programming Guide,
# table 1, and cuvidGetDecoderCaps); newer ones may take more of H.264.
_SIZES = {
    "h264": ((48, 16), (4096, 4096)),
    "vp8": ((48, 16), (4096, 4096)),
    "mpeg4": ((48, 16), (2032, 2032)),
    "hevc": ((144, 144), (8192, 8192)),
    "vp9": ((128, 128), (8192, 8192)),
    "av1": ((128, 128), (8192, 8192)),
}
NVDEC_CODECS = frozenset(_SIZES)
"""Codecs of which the limits are known. MJPEG is not among them: NVDEC's range and chroma of JPEG differ from FFmpeg's."""
# More bits or colour samples: some GPUs decode them, and to other colours than the CPU.
_PIXEL_FORMATS = ("yuv420p", "yuvj420p")
# FFmpeg's AVFieldOrder: unknown and progressive. A field is a decode callback of its own, so frames would be counted twice.
_PROGRESSIVE = (0, 1)
# Of the packets: DALI reads the whole file for any frame of it, PyAV seeks. Not measured yet, chosen so that a file is read
# for at least a frame of each group of 50.
_SPARSE = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamKind:
    """What decides how a decoder treats a video; the key under which it is trusted or not."""

    codec: str
    profile: str
    pixel_format: str
    size_class: str

    def __str__(self) -> str:
        return f"{self.codec} {self.profile} {self.pixel_format}, {self.size_class}"


def size_class(width: int, height: int) -> str:
    """Frames of one class are stored alike: padded to whole blocks of 16 or not, in the same tables of the decoder."""
    lines = next((n for n in (576, 1088, 2176) if min(width, height) <= n), 8192)
    is_padded = width % 16 or height % 16
    return f"up to {lines} lines{', padded' if is_padded else ''}"


def decodes_av1(capability: tuple[int, int]) -> bool:
    """Whether a GPU of a compute capability decodes AV1: GA10x, Ada and Blackwell do, Turing, A100 and Hopper do not.

    (NVDEC Application Note, Video Codec SDK 13.0, table 1.)
    """
    return capability in ((8, 6), (8, 7), (8, 9)) or capability >= (10, 0)


def allowed_codecs(capability: tuple[int, int] | None) -> frozenset[str]:
    """Codecs that go to NVDEC on a GPU of this compute capability; None = any GPU. ValueError for an unknown name in the environment."""
    named = {name for name in os.environ.get(MORE_CODECS_VARIABLE, "").split(",") if name}
    if unknown := sorted(named - NVDEC_CODECS):
        raise ValueError(
            f"{MORE_CODECS_VARIABLE} names {', '.join(unknown)}; it may name {', '.join(sorted(NVDEC_CODECS))}"
        )
    codecs = COMPARED_CODECS | named
    if capability is not None and not decodes_av1(capability):
        codecs -= {"av1"}
    return frozenset(codecs)


def device_capability(device_id: int) -> tuple[int, int] | None:
    """The compute capability of a GPU; None where torch does not reach it."""
    if not torch.cuda.is_available() or device_id >= torch.cuda.device_count():
        return None
    return torch.cuda.get_device_capability(device_id)


def nvdec_unsupported_reason(
    index: FrameIndex,
    pixel_format: str,
    *,
    field_order: int = 1,
    capability: tuple[int, int] | None = None,
) -> str | None:
    """Why the CPU should decode this video; None = NVDEC decodes it."""
    codec, width, height = index.codec, index.width, index.height
    if codec not in allowed_codecs(capability):
        if codec == "av1" and capability is not None and not decodes_av1(capability):
            return f"av1: a GPU of compute capability {capability[0]}.{capability[1]} does not decode it"
        return f"{codec}: frames of NVDEC are not known to be those of the CPU"
    (min_width, min_height), (max_width, max_height) = _SIZES[codec]
    if not (min_width <= width <= max_width and min_height <= height <= max_height):
        return f"{codec} of another size; NVDEC takes {min_width} x {min_height} to {max_width} x {max_height}"
    if width % 2 or height % 2:
        return f"{codec} of odd width or height; NVDEC writes pairs of pixels"
    if pixel_format not in _PIXEL_FORMATS:
        return f"{codec} in pixel format {pixel_format or 'unknown'}; NVDEC gives the same colours for {' and '.join(_PIXEL_FORMATS)}"
    if field_order not in _PROGRESSIVE:
        return f"{codec} interlaced: its fields would be counted as frames"
    return None


def sparse_reason(index: FrameIndex, numbers: Sequence[int]) -> str | None:
    """Why a decoder that reads whole files should not be asked for these frames; None = it may."""
    if index.num_packets_for(numbers) < _SPARSE * index.num_packets:
        return (
            f"sparse: under {_SPARSE:.0%} of the packets are needed, and the decoder reads them all"
        )
    return None
