"""Targets of distillation: what the shipped image part computes of each frame of a pool and of its mirror image.

B frames of a pool, H W pixels, C channels, F features, M channels of the map before them, S patches along a side.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.pretraining.frames import PosedFrames
from encoders.video_encoder.base import normalize_pixels
from encoders.video_encoder.config import POSE_PREPROCESSING
from encoders.video_encoder.pose_image import load_pose_image

_BATCH = 256
_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Targets:
    """float16, each column with mean 0 and variance 1 (of columns that are nearly always 0, less) over the pool; index 1 of the first axis is the mirror image."""

    features_2BF: Tensor
    maps_2BLM: Tensor
    """One row per patch, L = S * S."""

    def chosen(self, is_mirrored_N: Tensor, frames_N: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, F] and maps [N, L, M] of some frames, float32."""
        side_N = is_mirrored_N.long()
        return self.features_2BF[side_N, frames_N].float(), self.maps_2BLM[side_N, frames_N].float()


def distillation_targets(teacher: str, frames: PosedFrames, *, num_patches: int) -> Targets:
    """The teacher's features and its last map, resampled to `num_patches` by `num_patches`.

    ValueError for a teacher that is not shipped, and for frames of another size than it takes.
    """
    image = load_pose_image(teacher)
    size = frames.frames_BHWC.shape[1]
    if size != image.config.image_size:
        raise ValueError(
            f"teacher {teacher!r} takes frames of {image.config.image_size} pixels, not of {size}"
        )
    image.convs.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    features: list[Tensor] = []
    maps: list[Tensor] = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for is_mirrored in (False, True):
            for part_BHWC in frames.frames_BHWC.split(_BATCH):
                pixels_BCHW = normalize_pixels(
                    part_BHWC.unsqueeze(0), POSE_PREPROCESSING, torch.float32
                )
                map_BMSS = image.convs(pixels_BCHW.flip(3) if is_mirrored else pixels_BCHW)
                features.append(F.gelu(image.features(map_BMSS.flatten(1))).half())
                resampled_BMSS = F.interpolate(map_BMSS, (num_patches, num_patches), mode="area")
                maps.append(resampled_BMSS.flatten(2).transpose(1, 2).half())
    num_frames = len(frames.frames_BHWC)
    return Targets(
        _standardized(torch.cat(features)).unflatten(0, (2, num_frames)),
        _standardized(torch.cat(maps)).unflatten(0, (2, num_frames)),
    )


def _standardized(values: Tensor) -> Tensor:
    """In place and in parts: the maps of a pool take hundreds of megabytes. A channel that is nearly always 0 stays small."""
    columns = values.flatten(0, -2)
    parts = columns.split(_ROWS)
    mean = torch.stack([part.double().sum(dim=0) for part in parts]).sum(dim=0) / len(columns)
    squares = torch.stack([(part.double() - mean).square().sum(dim=0) for part in parts])
    std = (squares.sum(dim=0) / len(columns)).sqrt()
    scale = std.clamp(min=0.1 * std.median())
    for part in parts:
        part.copy_((part.double() - mean) / scale)
    return values
