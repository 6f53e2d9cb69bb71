"""Spans to frames that stay on the device that decoded them; its bicubic resize is bit-exact with the host's.

Both are products with a matrix of weights, in float64: the bicubic weights are whole numbers of 22 bits, so every sum is exact
whatever the order, and rounding gives the same bits on a GPU, on a CPU and in Pillow.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from encoders.decoding.assemble import assemble
from encoders.decoding.backends import decode_backend
from encoders.decoding.frames.bicubic import FRACTION_BITS, bicubic_weights
from encoders.decoding.frames.pixels import resize_frame
from encoders.decoding.request import DecodedSpan, DecodeRequest
from encoders.media.container import local_path
from encoders.media.sampling import Resize, SamplingConfig

# Bounded: an archive may contain arbitrarily many frame sizes.
_MAX_SIZES = 64


def resize_tensor(frame_HWC: Tensor, size: int, resize: Resize) -> Tensor:
    """uint8 [H, W, C] -> uint8 [size, size, C] on the same device, the aspect ratio not kept."""
    height, width, num_channels = frame_HWC.shape
    if (height, width) == (size, size):
        return frame_HWC
    weighted = _bicubic if resize == "pillow_bicubic" else _area
    pixels = frame_HWC.to(torch.float64)
    if width != size:
        columns = pixels.permute(1, 0, 2).reshape(width, -1)
        pixels = weighted(columns, size).reshape(size, height, num_channels).permute(1, 0, 2)
    if height != size:
        pixels = weighted(pixels.reshape(height, -1), size).reshape(size, size, num_channels)
    return pixels.round().to(torch.uint8)


def _bicubic(rows: Tensor, num_new: int) -> Tensor:
    """Weighted sums of rows, rounded to 8 bits as after each of Pillow's two passes."""
    sums = _bicubic_matrix(len(rows), num_new, rows.device) @ rows
    return torch.floor((sums + (1 << (FRACTION_BITS - 1))) / (1 << FRACTION_BITS)).clamp(0, 255)


def _area(rows: Tensor, num_new: int) -> Tensor:
    """Averages of what lies under each new row; the rounding comes at the end."""
    return _area_matrix(len(rows), num_new, rows.device) @ rows


@lru_cache(_MAX_SIZES)
def _bicubic_matrix(num_old: int, num_new: int, device: torch.device) -> Tensor:
    return torch.from_numpy(bicubic_weights(num_old, num_new)).to(device, torch.float64)


@lru_cache(_MAX_SIZES)
def _area_matrix(num_old: int, num_new: int, device: torch.device) -> Tensor:
    bounds = np.arange(num_new + 1) * (num_old / num_new)
    old = np.arange(num_old)
    covered = np.minimum(bounds[1:, None], old + 1) - np.maximum(bounds[:-1, None], old)
    weights = np.clip(covered, 0, None)
    return torch.from_numpy(weights / weights.sum(1, keepdims=True)).to(device, torch.float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceCanvas:
    """Tensors on one device. A frame that the CPU decoded is resized there and goes over once."""

    sampling: SamplingConfig
    device: torch.device
    has_buffers: bool = False

    def resized(self, frame_HWC: "np.ndarray | Tensor") -> Tensor:
        """See Canvas."""
        size = self.sampling.frame_size
        if isinstance(frame_HWC, np.ndarray):
            return torch.from_numpy(np.ascontiguousarray(resize_frame(frame_HWC, size)))
        return frame_HWC if size is None else resize_tensor(frame_HWC, size, self.sampling.resize)

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """See Canvas."""
        return torch.empty(shape, dtype=torch.uint8, device=self.device)


def iter_device_spans(request: DecodeRequest) -> Iterator[DecodedSpan]:
    """As `iter_spans`, with `device_frames_THWC` on `request.device` instead of `frames_THWC`."""
    from encoders.decoding.pyav_video import PyavVideo  # av only where it decodes

    canvas = DeviceCanvas(sampling=request.sampling, device=torch.device(request.device))
    backend = decode_backend(request.backend)
    path = local_path(request.video)
    with closing(PyavVideo(path, request.limits, request.sampling)) as video:
        source = backend.open_source(video, request.device, True)
        yield from assemble(request, source, canvas)
