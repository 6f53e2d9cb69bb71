"""Spans of one video to blocks of frames that stay on the device that decoded them: no picture goes through the host's memory."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from encoders.decode_request import DecodedSpan, DecodeRequest
from encoders.decode_spans import assemble
from encoders.frame_image import resize_frame
from encoders.media import local_path
from encoders.resize_tensor import resize_tensor
from encoders.sampling import SamplingConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceCanvas:
    """Tensors on one device. A picture that the CPU decoded is resized there and goes over once."""

    sampling: SamplingConfig
    device: torch.device
    has_slots: bool = False

    def resized(self, picture_HWC: "np.ndarray | Tensor") -> Tensor:
        """See decode_spans.Canvas."""
        size = self.sampling.frame_size
        if isinstance(picture_HWC, np.ndarray):
            return torch.from_numpy(np.ascontiguousarray(resize_frame(picture_HWC, size)))
        return (
            picture_HWC if size is None else resize_tensor(picture_HWC, size, self.sampling.resize)
        )

    def empty(self, shape: tuple[int, ...]) -> Tensor:
        """See decode_spans.Canvas."""
        return torch.empty(shape, dtype=torch.uint8, device=self.device)


def iter_device_spans(request: DecodeRequest) -> Iterator[DecodedSpan]:
    """As `iter_spans`, with `device_frames_THWC` on `request.device` instead of `frames_THWC`."""
    from encoders.decode_pyav import PyavVideo  # av and dali only where they decode

    canvas = DeviceCanvas(sampling=request.sampling, device=torch.device(request.device))
    path = local_path(request.video)
    with closing(PyavVideo(path, request.limits, request.sampling)) as video:
        if request.backend == "pyav":
            yield from assemble(request, video, canvas)
            return
        from encoders.decode_dali import DaliVideo

        source = DaliVideo(video, request.device, keeps_on_device=True)
        yield from assemble(request, source, canvas)
