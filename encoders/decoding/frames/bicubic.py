"""Pillow's antialiased bicubic resize to the bit, several times as fast: in Pillow it is most of what decoding 720p costs.

As there, each new pixel is a weighted sum of the old ones under it, the weights whole numbers of 22 fractional bits; first along the
width, rounded to 8 bits, then along the height. That is the order of Pillow up to 12; 13 takes the height first where it shrinks much
more than the width, with other last bits. What differs is the way through memory: whole rows are weighed and added, a loop that
compiles to vector instructions, and the width is done on a transposed copy.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numba import njit

FRACTION_BITS = 22
"""Of a weight."""
_SUPPORT = 2.0
# What is transposed at a time stays in the cache of a core.
_ROWS_AT_ONCE = 64
# Bounded: an archive may contain arbitrarily many frame sizes.
_MAX_SIZES = 64


@dataclass(frozen=True, slots=True)
class _Taps:
    """Of each new row: its first old row, how many old rows, and their weights [num_new, K]."""

    first: np.ndarray
    count: np.ndarray
    weights: np.ndarray


def resize_bicubic(frame_HWC: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [H, W, C] -> uint8 [height, width, C]; Pillow's bits of `Image.Resampling.BICUBIC`, the width resized first."""
    old_height, old_width, num_channels = frame_HWC.shape
    if old_width != width:
        frame_HWC = _resize_width(frame_HWC, width)
    if old_height == height:
        return frame_HWC
    rows = np.ascontiguousarray(frame_HWC).reshape(old_height, width * num_channels)
    resized = _resampled_rows(rows, _taps(old_height, height))
    return resized.reshape(height, width, num_channels)


def _resize_width(frame_HWC: np.ndarray, width: int) -> np.ndarray:
    height, old_width, num_channels = frame_HWC.shape
    taps = _taps(old_width, width)
    resized_HWC = np.empty((height, width, num_channels), np.uint8)
    for top in range(0, height, _ROWS_AT_ONCE):
        columns_WHC = cv2.transpose(frame_HWC[top : top + _ROWS_AT_ONCE]).reshape(old_width, -1)
        resampled = _resampled_rows(columns_WHC, taps).reshape(width, -1, num_channels)
        resized_HWC[top : top + _ROWS_AT_ONCE] = cv2.transpose(resampled).reshape(
            -1, width, num_channels
        )
    return resized_HWC


def bicubic_weights(num_old: int, num_new: int) -> np.ndarray:
    """The same sums as a matrix [num_new, num_old] of int32, each weight `1 << FRACTION_BITS` times what it stands for."""
    taps = _taps(num_old, num_new)
    matrix = np.zeros((num_new, num_old), np.int32)
    for new, (first, count) in enumerate(zip(taps.first, taps.count, strict=True)):
        matrix[new, first : first + count] = taps.weights[new, :count]
    return matrix


@lru_cache(_MAX_SIZES)
def _taps(num_old: int, num_new: int) -> _Taps:
    """Computed as Pillow computes them, in the same order: the last bit counts."""
    scale = num_old / num_new
    stretch = max(scale, 1.0)  # antialiasing: the kernel grows with what one new pixel covers
    support = _SUPPORT * stretch
    weights = np.zeros((num_new, math.ceil(support) * 2 + 1), np.int32)
    first, count = np.zeros(num_new, np.int64), np.zeros(num_new, np.int64)
    for new in range(num_new):
        center = (new + 0.5) * scale
        start = max(int(center - support + 0.5), 0)
        end = min(int(center + support + 0.5), num_old)
        kernel = [_bicubic((old - center + 0.5) * (1.0 / stretch)) for old in range(start, end)]
        total = 0.0
        for weight in kernel:
            total += weight
        for place, weight in enumerate(kernel):
            scaled = weight * (1.0 / total) * (1 << FRACTION_BITS)
            weights[new, place] = int(scaled + math.copysign(0.5, scaled))
        first[new], count[new] = start, end - start
    return _Taps(first, count, weights)


def _bicubic(x: float) -> float:
    """The kernel of Catmull and Rom, as Pillow writes it."""
    x = abs(x)
    if x < 1.0:
        return ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1
    if x < 2.0:
        return (((x - 5) * x + 8) * x - 4) * -0.5
    return 0.0


def _compiled(function: Any) -> Any:
    """Machine code, cached beside the source or in the user's cache folder; compiled again per process where neither can be written."""
    try:
        return njit(cache=True)(function)
    except RuntimeError:
        return njit(function)


def _resampled_rows(rows: np.ndarray, taps: _Taps) -> np.ndarray:
    resampled = np.empty((len(taps.first), rows.shape[1]), np.uint8)
    _resample_rows(rows, taps.first, taps.count, taps.weights, resampled)
    return resampled


@_compiled
def _resample_rows(
    rows: np.ndarray, first: np.ndarray, count: np.ndarray, weights: np.ndarray, out: np.ndarray
) -> None:
    """out[n] = the weighted sum of rows[first[n] : first[n] + count[n]], rounded and cut to 8 bits."""
    width = rows.shape[1]
    sums = np.empty(width, np.int32)
    for n in range(out.shape[0]):
        sums[:] = 1 << (FRACTION_BITS - 1)
        k = 0
        while (
            k + 4 <= count[n]
        ):  # four at a time: the sums are loaded and stored a quarter as often
            old = first[n] + k
            row_0, row_1, row_2, row_3 = rows[old], rows[old + 1], rows[old + 2], rows[old + 3]
            w_0, w_1 = weights[n, k], weights[n, k + 1]
            w_2, w_3 = weights[n, k + 2], weights[n, k + 3]
            for x in range(width):
                sums[x] += row_0[x] * w_0 + row_1[x] * w_1 + row_2[x] * w_2 + row_3[x] * w_3
            k += 4
        while k < count[n]:
            row_0, w_0 = rows[first[n] + k], weights[n, k]
            for x in range(width):
                sums[x] += row_0[x] * w_0
            k += 1
        for x in range(width):
            out[n, x] = min(max(sums[x] >> FRACTION_BITS, 0), 255)
