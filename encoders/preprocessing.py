"""What happens to a pixel before the first layer; it runs inside the encoder, so that every backend sees the same numbers.

N clips, T frames, H W pixels, C channels.
"""

import torch
from torch import Tensor

from encoders.shapes import Preprocessing


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
