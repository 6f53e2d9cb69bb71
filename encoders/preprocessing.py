"""What happens to a pixel before the first layer; it runs inside the encoder, so that every backend sees the same numbers.

N clips, T frames, H W pixels, C channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """(pixel / 255 - mean) / std for red, green and blue; recorded in the card."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(
                f"mean is {self.mean} and std is {self.std}; both need three numbers, std above 0"
            )


def normalize_pixels(
    frames_NTHWC: Tensor, preprocessing: Preprocessing, dtype: torch.dtype
) -> Tensor:
    """uint8 frames -> [N * T, C, H, W] in `dtype`; computed in float32 (or finer), where 1/255 steps are exact enough."""
    wide = dtype if dtype.itemsize > 4 else torch.float32
    device = frames_NTHWC.device
    scale = torch.tensor([1 / (255 * std) for std in preprocessing.std], dtype=wide, device=device)
    shift = torch.tensor(
        [-mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)],
        dtype=wide,
        device=device,
    )
    pixels_BHWC = frames_NTHWC.flatten(0, 1).to(wide) * scale + shift
    return pixels_BHWC.permute(0, 3, 1, 2).to(dtype)
