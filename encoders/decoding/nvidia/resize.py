"""Resize of whole runs of frames on the device that decoded them; its bicubic has the bits of the host's.

Pillow's bicubic is integer arithmetic: each new pixel is a sum of old ones times weights of 22 fractional bits, which fits 32 bits,
rounded to 8 bits after the width and again after the height. The same sums run here as one Triton kernel per direction where there
is a GPU, and otherwise in torch.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from encoders.decoding.frames.bicubic import FRACTION_BITS, bicubic_weights
from encoders.media.sampling import Resize

# Bounded: an archive may contain arbitrarily many frame sizes.
_MAX_SIZES = 64
_HALF = 1 << (FRACTION_BITS - 1)
_BLOCK = 1024


def resize_frames(frames_FHWC: Tensor, size: int, resize: Resize) -> Tensor:
    """uint8 [F, H, W, C] -> uint8 [F, size, size, C] on the same device, the aspect ratio not kept."""
    num_frames, height, width, num_channels = frames_FHWC.shape
    if (height, width) == (size, size):
        return frames_FHWC
    resample = _bicubic if resize == "pillow_bicubic" else _area
    pixels = frames_FHWC.contiguous()
    if resize != "pillow_bicubic":
        pixels = pixels.to(torch.float64)
    if width != size:
        pixels = resample(pixels.reshape(-1, width, num_channels), size)
    if height != size:
        pixels = resample(pixels.reshape(num_frames, height, size * num_channels), size)
    return pixels.reshape(num_frames, size, size, num_channels).round().to(torch.uint8)


def resize_tensor(frame_HWC: Tensor, size: int, resize: Resize) -> Tensor:
    """As resize_frames, for one frame."""
    if frame_HWC.shape[:2] == (size, size):
        return frame_HWC
    return resize_frames(frame_HWC.unsqueeze(0), size, resize)[0]


def resample_bicubic(pixels: Tensor, num_new: int) -> Tensor:
    """uint8 [outer, old, inner] -> uint8 [outer, num_new, inner] in torch: what the kernel computes."""
    first_new, weights_new_K = _taps(pixels.shape[1], num_new, pixels.device)
    last = pixels.shape[1] - 1
    sums = torch.full(
        (len(pixels), num_new, pixels.shape[2]), _HALF, dtype=torch.int32, device=pixels.device
    )
    for tap in range(weights_new_K.shape[1]):
        rows = pixels[:, (first_new + tap).clamp(max=last)].to(torch.int32)
        sums += weights_new_K[:, tap, None] * rows
    return (sums >> FRACTION_BITS).clamp(0, 255).to(torch.uint8)


def _bicubic(pixels: Tensor, num_new: int) -> Tensor:
    if not pixels.is_cuda:
        return resample_bicubic(pixels, num_new)
    return launch_bicubic(pixels, num_new)


def launch_bicubic(pixels: Tensor, num_new: int) -> Tensor:
    """As resample_bicubic, in one kernel; in torch where Triton is not installed."""
    kernel = bicubic_kernel()
    if kernel is None:
        return resample_bicubic(pixels, num_new)
    outer, num_old, inner = pixels.shape
    first_new, weights_new_K = _taps(num_old, num_new, pixels.device)
    out = pixels.new_empty((outer, num_new, inner))
    grid = (outer, -(-num_new * inner // _BLOCK))
    kernel[grid](
        pixels,
        out,
        first_new.to(torch.int32),
        weights_new_K,
        num_old,
        num_new,
        inner,
        NUM_TAPS=weights_new_K.shape[1],
        HALF=_HALF,
        FRACTION_BITS=FRACTION_BITS,
        BLOCK=_BLOCK,
    )
    return out


@lru_cache(1)
def bicubic_kernel() -> Any:
    """The kernel, compiled for its first use; None where Triton is not installed."""
    try:
        import triton  # pyright: ignore[reportMissingImports]
        import triton.language as tl  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None

    @triton.jit
    def kernel(  # noqa: ANN202, PLR0913 - a kernel's arguments are what it reads
        pixels,  # noqa: ANN001
        out,  # noqa: ANN001
        first_new,  # noqa: ANN001
        weights_new_K,  # noqa: ANN001
        num_old,  # noqa: ANN001
        num_new,  # noqa: ANN001
        inner,  # noqa: ANN001
        NUM_TAPS: tl.constexpr,
        HALF: tl.constexpr,
        FRACTION_BITS: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        outer = tl.program_id(0).to(tl.int64)
        place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        is_inside = place < num_new * inner
        new, column = place // inner, place % inner
        first = tl.load(first_new + new, mask=is_inside, other=0)
        source = pixels + outer * num_old * inner
        sums = tl.full((BLOCK,), HALF, tl.int32)
        for tap in range(NUM_TAPS):
            old = tl.minimum(first + tap, num_old - 1)
            weight = tl.load(weights_new_K + new * NUM_TAPS + tap, mask=is_inside, other=0)
            pixel = tl.load(source + old * inner + column, mask=is_inside, other=0)
            sums += weight * pixel.to(tl.int32)
        result = tl.minimum(tl.maximum(sums >> FRACTION_BITS, 0), 255)
        tl.store(out + outer * num_new * inner + place, result.to(tl.uint8), mask=is_inside)

    return kernel


def _area(pixels: Tensor, num_new: int) -> Tensor:
    """Averages of what lies under each new row, in float64; the rounding comes at the end."""
    return _area_matrix(pixels.shape[1], num_new, pixels.device) @ pixels


@lru_cache(_MAX_SIZES)
def _taps(num_old: int, num_new: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of each new row: its first old row [num_new] int64, and the weights from there on [num_new, K] int32, zeros at the end."""
    weights = np.asarray(bicubic_weights(num_old, num_new))
    is_used = weights != 0
    first = is_used.argmax(1)
    num_taps = int((num_old - is_used[:, ::-1].argmax(1) - first).max())
    places = np.minimum(first[:, None] + np.arange(num_taps), num_old - 1)
    taps = np.take_along_axis(weights, places, 1)
    taps[first[:, None] + np.arange(num_taps) >= num_old] = 0
    return (
        torch.from_numpy(first).to(device),
        torch.from_numpy(taps.astype(np.int32)).to(device).contiguous(),
    )


@lru_cache(_MAX_SIZES)
def _area_matrix(num_old: int, num_new: int, device: torch.device) -> Tensor:
    bounds = np.arange(num_new + 1) * (num_old / num_new)
    old = np.arange(num_old)
    covered = np.minimum(bounds[1:, None], old + 1) - np.maximum(bounds[:-1, None], old)
    weights = np.clip(covered, 0, None)
    return torch.from_numpy(weights / weights.sum(1, keepdims=True)).to(device, torch.float64)
