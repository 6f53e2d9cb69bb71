"""Frames of FFmpeg's decoders to RGB arrays as shown."""

from typing import Any

import cv2
import numpy as np

from encoders.decoding.frames.color import matrix_code
from encoders.decoding.frames.pixels import DisplayMatrix, orient_frame
from encoders.media.sampling import Color, SamplingConfig

try:
    from av.sidedata.sidedata import SideDataContainer, Type
    from av.video.frame import VideoFrame
    from av.video.reformatter import Interpolation, VideoReformatter
except ImportError as error:
    raise ImportError("decoding with pyav needs the package 'av': pip install 'av>=14'") from error

# With BT.601 the conversion of DALI on a CPU, bit for bit: FFmpeg's default shortcut is 1 to 2 levels too dark.
_EXACT = Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
_NATIVE_SIZE = Interpolation.BILINEAR | _EXACT
# Averages the area of each new pixel. FULL_CHR_H_INP: every pixel's colour counts where the input is RGB.
_AREA = Interpolation.AREA | _EXACT | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INP


class FrameConverter:
    """Decoded frames of one video to RGB arrays; keeps FFmpeg's conversion tables from frame to frame."""

    def __init__(self, sampling: SamplingConfig | None = None) -> None:
        """`sampling` with resize "swscale_area" makes frames of its size; otherwise they keep the size of the video."""
        is_area = sampling is not None and sampling.resize == "swscale_area"
        self._size = sampling.frame_size if sampling is not None and is_area else None
        self._color: Color = "bt601" if sampling is None else sampling.color
        self._reformatter = VideoReformatter()

    def rgb_frame(self, frame: VideoFrame, out_HWC: np.ndarray | None = None) -> np.ndarray:
        """RGB as shown [H, W, 3]; made in `out_HWC` where that has its size and nothing is to be turned."""
        matrix = display_matrix(frame)
        if matrix is None:
            return self._convert(frame, out_HWC)
        return orient_frame(self._convert(frame), matrix)

    def matrix_code_of(self, frame: VideoFrame) -> int:
        """The colour matrix that the frame is converted with, by its number in ITU-T H.273."""
        return matrix_code(frame.colorspace, self._color)

    def resized(self, frame_HWC: np.ndarray) -> np.ndarray:
        """A frame that another decoder made, at the size of ours; to a level or two of what one pass gives."""
        if self._is_sized(*frame_HWC.shape[:2]):
            return frame_HWC
        return self._convert(VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), "rgb24"))

    def _is_sized(self, height: int, width: int) -> bool:
        return self._size is None or (height, width) == (self._size, self._size)

    def _convert(self, frame: VideoFrame, out_HWC: np.ndarray | None = None) -> np.ndarray:
        if not self._is_sized(frame.height, frame.width):
            size = {"width": self._size, "height": self._size}
            planar = self._reformat(frame, format="gbrp", interpolation=_AREA, **size)
            return _interleaved(planar, out_HWC)
        if frame.height % 2:  # FFmpeg takes another way to gbrp then, which rounds differently
            rgb = self._reformat(frame, format="rgb24", interpolation=_NATIVE_SIZE)
            return rgb.to_ndarray()
        planar = self._reformat(frame, format="gbrp", interpolation=_NATIVE_SIZE)
        return _interleaved(planar, out_HWC)

    def _reformat(self, frame: VideoFrame, **wanted: Any) -> VideoFrame:
        # PyAV's names of matrices lack one of the two numbers of BT.601. The range it takes from the frame.
        code: Any = self.matrix_code_of(frame)
        colors = {"src_colorspace": code, "dst_colorspace": code}
        return self._reformatter.reformat(frame, **wanted, **colors, threads=1)


def _interleaved(planar: VideoFrame, out_HWC: np.ndarray | None = None) -> np.ndarray:
    """gbrp as [H, W, 3]: to the bits of rgb24, in a third of the time."""
    green, blue, red = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[
            :, : plane.width
        ]
        for plane in planar.planes
    )
    if out_HWC is None or out_HWC.shape[:2] != red.shape:
        return np.asarray(cv2.merge([red, green, blue]))
    cv2.merge([red, green, blue], out_HWC)
    return out_HWC


def display_matrix(frame: VideoFrame) -> DisplayMatrix | None:
    """How the frame asks to be turned or mirrored."""
    # Not `frame.side_data`: the frame would hold it, it holds the frame, and each frame's memory waited for the cycle collector
    # while the decoder took new memory for the next ones. PyAV's stub leaves its argument out.
    side_data = _side_data(frame)
    if len(side_data) == 0:  # nearly always, and a search in vain costs more than all else here
        return None
    matrix = side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return None
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    return a, b, c, d


def _side_data(frame: VideoFrame) -> SideDataContainer:
    try:
        return SideDataContainer(frame)  # pyright: ignore[reportCallIssue]
    except ValueError:
        # FFmpeg names more types than PyAV does (views of stereo video, EXIF): each gets a name of its own here.
        Type._missing_ = classmethod(_unnamed_type)  # pyright: ignore[reportAttributeAccessIssue]
        return SideDataContainer(frame)  # pyright: ignore[reportCallIssue]


def _unnamed_type(cls: type[Type], value: object) -> Type:
    unnamed = object.__new__(cls)
    unnamed._name_, unnamed._value_ = f"UNNAMED_{value}", value
    return unnamed
