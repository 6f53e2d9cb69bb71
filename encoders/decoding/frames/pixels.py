"""Decoded frames as every encoder sees them: orientation and size, the same code for every decode backend."""

from collections.abc import Callable

import numpy as np

DisplayMatrix = tuple[float, float, float, float]
OutBufferFor = Callable[[int], np.ndarray | None]
"""Frame number -> the part of the clip's array [H, W, 3] that the frame of the wanted size ends up in, so that it need not be copied;
None = anywhere. Whoever is given the buffer owns it until it yields the frame."""


def no_buffer(_number: int) -> None:
    """Every frame in memory of its own."""
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
    from encoders.decoding.frames.bicubic import resize_bicubic

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
