"""A video encoder compiled by torch, in low precision: few kernels, one graph for batches of any size.

What lies between the matrix products (QuickGELU, residuals, norms, the adapters' GELUs) is fused. N clips, D clip vector.
"""

import torch
from torch import Tensor

from encoders.video_encoder.base import VideoEncoder


class CompiledVideo:
    """`with_length` of an encoder, compiled by its first call; changes the encoder's own weights to `dtype`.

    With `is_autocast` matrix products alone are done in it, and the weights stay as they are.
    """

    def __init__(
        self, video: VideoEncoder, dtype: torch.dtype, *, is_autocast: bool = False
    ) -> None:
        self._dtype, self._is_autocast = dtype, is_autocast
        if not is_autocast:
            video.to(dtype)
        self._run = torch.compile(video.with_length)

    @torch.inference_mode()
    def __call__(self, frames_NTHWC: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 frames -> unit clip vectors [N, D] and lengths [N], float32; a clip alone goes twice, or it would be compiled for itself."""
        num_clips = len(frames_NTHWC)
        batch_NTHWC = frames_NTHWC if num_clips > 1 else torch.cat([frames_NTHWC, frames_NTHWC])
        torch._dynamo.maybe_mark_dynamic(batch_NTHWC, 0)
        with torch.autocast(batch_NTHWC.device.type, self._dtype, enabled=self._is_autocast):
            unit_ND, length_N = self._run(batch_NTHWC)
        return unit_ND[:num_clips], length_N[:num_clips]
