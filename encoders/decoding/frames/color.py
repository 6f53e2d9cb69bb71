"""Colour matrices (Y'CbCr to RGB): which one a file asks for, and RGB made with BT.601 turned into what another matrix would have made."""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from encoders.media.sampling import Color

if TYPE_CHECKING:
    from torch import Tensor

BT_601 = 5
# Weights of red and blue in luma, by the numbers of ITU-T H.273, table 4. SMPTE 170M (6) is BT.601 with 525 lines: the same matrix.
_LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC, 47 CFR 73.682
    BT_601: (0.299, 0.114),
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020 non-constant luminance
}


def matrix_code(named: int, color: Color) -> int:
    """The matrix to convert with, where a file names number `named` of H.273. Unnamed, unknown and non-linear ones (2, 8, 10 and
    above) count as BT.601, FFmpeg's own rule."""
    return BT_601 if color == "bt601" or named not in _LUMA_WEIGHTS else named


def recolor(frame_HWC: "Tensor", code: int) -> "Tensor":
    """RGB uint8 [H, W, 3] made with BT.601, as the matrix `code` makes it, on the same device.

    Within 2 levels, but for colours that BT.601 clips at 0 or 255: what was cut off cannot be known again.
    """
    if code == BT_601:
        return frame_HWC
    pixels = frame_HWC.double()
    return (pixels @ pixels.new_tensor(_from_bt_601(code))).round().clamp(0, 255).byte()


@lru_cache
def _from_bt_601(code: int) -> list[list[float]]:
    """Right factor [3, 3] of rows of RGB; the range cancels out."""
    return (_to_rgb(code) @ np.linalg.inv(_to_rgb(BT_601))).T.tolist()


def _to_rgb(code: int) -> np.ndarray:
    """RGB [3] from (Y', Cb, Cr), with Y' in 0 to 1 and Cb, Cr in -0.5 to 0.5; H.273, equations 38 to 40 solved for RGB."""
    red, blue = _LUMA_WEIGHTS[code]
    green = 1 - red - blue
    of_red, of_blue = 2 * (1 - red), 2 * (1 - blue)
    return np.array(
        [[1, 0, of_red], [1, -blue * of_blue / green, -red * of_red / green], [1, of_blue, 0]]
    )
