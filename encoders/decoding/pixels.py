"""How a decoded frame becomes an RGB picture: colours, where asked for its size in the same pass, and its orientation."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from encoders.media.sampling import SamplingConfig

DisplayMatrix = tuple[float, float, float, float]
SlotOf = Callable[[int], np.ndarray | None]
"""Frame number -> where its picture [H, W, 3] of the wanted size goes in the end: one that is made there need not be copied."""


def no_slot(_number: int) -> None:
    """Every picture in memory of its own."""
    return


def resize_frame(frame_HWC: np.ndarray, frame_size: int | None) -> np.ndarray:
    """A square of `frame_size` pixels, aspect ratio not kept; None keeps the native size.

    Bicubic as Pillow has it: antialiased when it shrinks (OpenCV's is not), integer arithmetic and so the same bits on every machine
    (torch's differs between CPU features), what the release and CLIP's own preprocessing use.
    """
    height, width = frame_HWC.shape[:2]
    frame_HWC = np.ascontiguousarray(frame_HWC)
    if frame_size is None or (height, width) == (frame_size, frame_size):
        return frame_HWC
    from encoders.decoding.bicubic import resize_bicubic

    return resize_bicubic(frame_HWC, frame_size, frame_size)


def orient_frame(frame_HWC: np.ndarray, matrix: DisplayMatrix) -> np.ndarray:
    """The frame as its display matrix (a, b, c, d) shows it: one of the eight turns and mirrors nearest to the matrix.

    A stored point (x, y) is shown at (a x + c y, b x + d y), y downwards, as in ISO 14496-12.
    """
    swaps, mirrored = turn_and_mirrors(matrix)
    return np.flip(frame_HWC.swapaxes(0, 1) if swaps else frame_HWC, mirrored)


def turn_and_mirrors(matrix: DisplayMatrix) -> tuple[bool, tuple[int, ...]]:
    """Whether height and width change places, and then which axes are mirrored (0 = height, 1 = width)."""
    a, b, c, d = matrix
    swaps = abs(b) + abs(c) > abs(a) + abs(d)
    x, y = (c, b) if swaps else (a, d)
    return swaps, (*((0,) if y < 0 else ()), *((1,) if x < 0 else ()))


try:
    from av.sidedata.sidedata import SideDataContainer
    from av.video.frame import VideoFrame
    from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
except ImportError as error:
    raise ImportError(
        "decoding with pyav needs the package 'av': pip install -e . (or 'av>=14')"
    ) from error

# The conversion of DALI on a CPU, bit for bit: FFmpeg's default shortcut is 1 to 2 levels too dark, and DALI, on a GPU too,
# takes every file for BT.601 whatever it says. Two backends that agree are worth more than the exact hue.
_EXACT = Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
_BT_601: dict[str, Any] = {
    "src_colorspace": Colorspace.ITU601,
    "dst_colorspace": Colorspace.ITU601,
    "threads": 1,
}
_NATIVE_SIZE = Interpolation.BILINEAR | _EXACT
# Averages the area of each new pixel. FULL_CHR_H_INP: every pixel's colour counts where the input is RGB.
_AREA = Interpolation.AREA | _EXACT | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INP


class PictureMaker:
    """Frames of one video to pictures; keeps FFmpeg's tables from frame to frame."""

    def __init__(self, sampling: SamplingConfig | None = None) -> None:
        """`sampling` with resize "swscale_area" makes pictures of its size; otherwise they keep the size of the video."""
        is_area = sampling is not None and sampling.resize == "swscale_area"
        self._size = sampling.frame_size if sampling is not None and is_area else None
        self._reformatter = VideoReformatter()

    def picture(self, frame: VideoFrame, slot_HWC: np.ndarray | None = None) -> np.ndarray:
        """RGB as shown [H, W, 3]; made in `slot_HWC` where that has its size and nothing is to be turned."""
        matrix = display_matrix(frame)
        if matrix is None:
            return self._convert(frame, slot_HWC)
        return orient_frame(self._convert(frame), matrix)

    def resized(self, picture_HWC: np.ndarray) -> np.ndarray:
        """A picture that another decoder made, at the size of ours; to a level or two of what one pass gives."""
        if self._is_sized(*picture_HWC.shape[:2]):
            return picture_HWC
        return self._convert(VideoFrame.from_ndarray(np.ascontiguousarray(picture_HWC), "rgb24"))

    def _is_sized(self, height: int, width: int) -> bool:
        return self._size is None or (height, width) == (self._size, self._size)

    def _convert(self, frame: VideoFrame, slot_HWC: np.ndarray | None = None) -> np.ndarray:
        if not self._is_sized(frame.height, frame.width):
            size = {"width": self._size, "height": self._size}
            planar = self._reformat(frame, format="gbrp", interpolation=_AREA, **size)
            return _interleaved(planar, slot_HWC)
        if frame.height % 2:  # FFmpeg takes another way to gbrp then, which rounds differently
            picture = self._reformat(frame, format="rgb24", interpolation=_NATIVE_SIZE)
            return picture.to_ndarray()
        planar = self._reformat(frame, format="gbrp", interpolation=_NATIVE_SIZE)
        return _interleaved(planar, slot_HWC)

    def _reformat(self, frame: VideoFrame, **wanted: Any) -> VideoFrame:
        return self._reformatter.reformat(frame, **wanted, **_BT_601)


def _interleaved(planar: VideoFrame, slot_HWC: np.ndarray | None = None) -> np.ndarray:
    """gbrp as [H, W, 3]: to the bits of rgb24, in a third of the time."""
    green, blue, red = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[
            :, : plane.width
        ]
        for plane in planar.planes
    )
    if slot_HWC is None or slot_HWC.shape[:2] != red.shape:
        return np.asarray(cv2.merge([red, green, blue]))
    cv2.merge([red, green, blue], slot_HWC)
    return slot_HWC


def display_matrix(frame: VideoFrame) -> DisplayMatrix | None:
    """How the frame asks to be turned or mirrored."""
    # Not `frame.side_data`: the frame would hold it, it holds the frame, and each frame's memory waited for the cycle collector
    # while the decoder took new memory for the next ones. PyAV's stub leaves its argument out.
    found = SideDataContainer(frame)  # pyright: ignore[reportCallIssue]
    if len(found) == 0:  # nearly always, and a search in vain costs more than all else here
        return None
    matrix = found.get("DISPLAYMATRIX")
    if matrix is None:
        return None
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    return a, b, c, d
