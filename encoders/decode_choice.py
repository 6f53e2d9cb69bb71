"""NVDEC or a CPU core for this video? By codec, pixel format and size, and by how little of the file is wanted."""

from collections.abc import Sequence

from encoders.frame_plan import FrameIndex

# Shortest and longest width and height that NVDEC takes on any GPU since Pascal (NVDEC Video Decoder API Programming Guide,
# table 1, and cuvidGetDecoderCaps); newer ones may take more of H.264. DALI decodes MJPEG elsewhere.
_SIZES = {
    "h264": ((48, 16), (4096, 4096)),
    "vp8": ((48, 16), (4096, 4096)),
    "mpeg4": ((48, 16), (2032, 2032)),
    "hevc": ((144, 144), (8192, 8192)),
    "vp9": ((128, 128), (8192, 8192)),
    "av1": ((128, 128), (8192, 8192)),
}
# More bits or colour samples: some GPUs decode them, and to other colours than the CPU.
_PIXEL_FORMATS = ("yuv420p", "yuvj420p")
# Of the packets: DALI reads the whole file for any frame of it, PyAV seeks. Not measured yet, chosen so that a file is read
# for at least a frame of each group of 50.
_SPARSE = 0.02


def why_not_nvdec(index: FrameIndex, pixel_format: str, numbers: Sequence[int]) -> str | None:
    """Why the CPU should decode these frames; None = NVDEC. The same words for every video of a kind: summaries count them."""
    if index.codec in _SIZES:
        (least_width, least_height), (width, height) = _SIZES[index.codec]
        if not (least_width <= index.width <= width and least_height <= index.height <= height):
            return f"{index.codec} of another size; NVDEC takes {least_width} x {least_height} to {width} x {height}"
        if pixel_format not in _PIXEL_FORMATS:
            return f"{index.codec} in pixel format {pixel_format or 'unknown'}; NVDEC gives the same colours for {' and '.join(_PIXEL_FORMATS)}"
    num_needed = index.num_packets_for(numbers)
    if num_needed < _SPARSE * index.num_packets:
        return f"sparse: under {_SPARSE:.0%} of the packets are needed, and dali reads them all"
    return None
