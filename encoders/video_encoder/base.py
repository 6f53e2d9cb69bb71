"""Base class of video encoders: uint8 frames [N, T, H, W, C] to unit clip vectors [N, D].

N clips, T frames, H W pixels, C channels, D clip vector.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.video_encoder.config import Preprocessing


class VideoEncoderSettings(Protocol):
    """What every config of a video encoder says, whatever else it holds."""

    @property
    def kind(self) -> str: ...
    @property
    def num_frames(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    @property
    def embedding_dim(self) -> int: ...


class VideoEncoder(nn.Module):
    """Base of all video encoders. A kind writes `features`; normalising and checking are the same for all."""

    config: Any
    """The frozen dataclass that `encoders.video_encoder.registry.build_video_encoder` builds this encoder from."""
    no_weight_decay: tuple[str, ...] | None = None
    """Parts of names of parameters without weight decay, as the encoder's paper says; None = as usual."""

    def __init__(self, config: VideoEncoderSettings) -> None:
        super().__init__()
        self.config = config

    @property
    def preprocessing(self) -> Preprocessing:
        """What happens to a pixel before the first layer; part of the encoder id."""
        return Preprocessing(mean=self.config.pixel_mean, std=self.config.pixel_std)

    def features(self, frames_NTHWC: Tensor) -> Tensor:
        """uint8 frames -> pooled clip vectors [N, D], not normalised: what a classification head reads."""
        raise NotImplementedError(f"{type(self).__name__} must define features()")

    def freeze_pretrained(self) -> None:
        """Leave only what stage 1 learns trainable; an encoder without a pretrained part trains whole."""

    def forward(self, frames_NTHWC: Tensor) -> Tensor:
        """uint8 frames -> unit clip vectors [N, D], float32."""
        return self.with_length(frames_NTHWC)[0]

    def with_length(self, frames_NTHWC: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 frames -> unit clip vectors [N, D] and the lengths [N] that the features had, float32."""
        features_ND = self.features(frames_NTHWC).float()
        return F.normalize(features_ND, dim=-1), features_ND.norm(dim=-1)

    def check_frames(self, frames_NTHWC: Tensor) -> None:
        """ValueError for frames that this encoder was not made for."""
        size = self.config.image_size
        if frames_NTHWC.dtype != torch.uint8:
            raise ValueError(f"frames are {frames_NTHWC.dtype}; an encoder takes uint8")
        if frames_NTHWC.ndim != 5 or tuple(frames_NTHWC.shape[2:]) != (size, size, 3):
            raise ValueError(
                f"frames have shape {tuple(frames_NTHWC.shape)}; this encoder takes [N, T, {size}, {size}, 3]"
            )


def normalize_pixels(
    frames_NTHWC: Tensor, preprocessing: Preprocessing, dtype: torch.dtype
) -> Tensor:
    """uint8 frames -> [N * T, C, H, W] in `dtype`; computed in float32 (or finer), where 1/255 steps are exact enough.

    The constants are numbers in the kernels and not tensors: a tensor made here would be a copy to the device that the host waits
    for, once a batch, and that no CUDA graph can hold.
    """
    wide = dtype if dtype.itemsize > 4 else torch.float32
    pixels_BHWC = frames_NTHWC.flatten(0, 1).to(wide)
    channels = [
        pixels_BHWC[..., channel] * (1 / (255 * std)) + -mean / std
        for channel, (mean, std) in enumerate(
            zip(preprocessing.mean, preprocessing.std, strict=True)
        )
    ]
    return torch.stack(channels, dim=1).to(dtype)
