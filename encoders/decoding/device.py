"""Spans to frames that stay on the device that decoded them."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from encoders.decoding.assemble import assemble
from encoders.decoding.backends import decode_backend
from encoders.decoding.frames.pixels import resize_frame
from encoders.decoding.nvidia.resize import resize_tensor
from encoders.decoding.request import DecodedSpan, DecodeRequest
from encoders.media.container import local_path
from encoders.media.sampling import SamplingConfig


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
