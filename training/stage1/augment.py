"""Augmentation of decoded training frames: crop, mirroring and RandAugment, once per clip or for each frame apart.

T frames, H W pixels, C channels. The operations of RandAugment (arXiv 1909.13719) are those that BLIP's code, and so TF-CoVR's,
draws from; each drawn one is applied half of the time. uint8 in, uint8 out.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.configs import AugmentConfig

_MAX_STRENGTH = 10
_GREY = (128, 128, 128)
_MAX_SHEAR, _MAX_SHIFT_PX, _MAX_DEGREES = 0.3, 10.0, 30.0
_SMOOTHING = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13

Operation = Callable[[np.ndarray, float, float], np.ndarray]
"""A frame [H, W, C], strength as a share of the strongest, and 1 or -1 -> a frame."""


def augment_frames(
    frames_THWC: Tensor, augment: AugmentConfig, image_size: int, rng: np.random.Generator
) -> Tensor:
    """Frames of a clip -> [T, image_size, image_size, C]; draws once, or with `per_frame` for each frame."""
    if augment.per_frame:
        alone = [
            _augment(frame_1HWC, augment, image_size, rng) for frame_1HWC in frames_THWC.split(1)
        ]
        return torch.cat(alone)
    return _augment(frames_THWC, augment, image_size, rng)


def _augment(
    frames_THWC: Tensor, augment: AugmentConfig, image_size: int, rng: np.random.Generator
) -> Tensor:
    if augment.min_crop_scale < 1:
        top, left, height, width = _crop_box(frames_THWC.shape[1], augment.min_crop_scale, rng)
        frames_THWC = frames_THWC[:, top : top + height, left : left + width]
    if augment.flip and rng.random() < 0.5:
        frames_THWC = frames_THWC.flip(2)
    size = (image_size, image_size)
    if frames_THWC.shape[1:3] != size:
        pixels_TCHW = frames_THWC.permute(0, 3, 1, 2).float()
        resized = F.interpolate(pixels_TCHW, size, mode="bicubic", antialias=True)
        frames_THWC = resized.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    if augment.rand_augment is not None:
        frames_THWC = _rand_augment(frames_THWC, augment.rand_augment, rng)
    return frames_THWC.contiguous()


def _crop_box(size: int, min_scale: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A random box with min_scale to 1 of the area and aspect 3:4 to 4:3, as in torchvision's RandomResizedCrop."""
    area = rng.uniform(min_scale, 1.0) * size * size
    aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
    width = min(size, max(1, round(math.sqrt(area * aspect))))
    height = min(size, max(1, round(math.sqrt(area / aspect))))
    top, left = rng.integers(size - height + 1), rng.integers(size - width + 1)
    return int(top), int(left), height, width


def _rand_augment(
    frames_THWC: Tensor, settings: tuple[int, int], rng: np.random.Generator
) -> Tensor:
    num_operations, strength = settings
    names = list(OPERATIONS)
    frames = list(frames_THWC.numpy())
    for name in rng.choice(names, size=num_operations):
        is_applied, sign = rng.random() <= 0.5, -1.0 if rng.random() > 0.5 else 1.0
        if is_applied:
            share = strength / _MAX_STRENGTH
            frames = [OPERATIONS[name](np.ascontiguousarray(f), share, sign) for f in frames]
    return torch.from_numpy(np.stack(frames))


def _stretch_contrast(frame_HWC: np.ndarray, _share: float, _sign: float) -> np.ndarray:
    """Each channel's values spread over 0 to 255."""
    low_C, high_C = frame_HWC.min(axis=(0, 1)), frame_HWC.max(axis=(0, 1))
    tables = [
        np.clip((np.arange(256) - low) * (255 / (high - low)), 0, 255)
        if high > low
        else np.arange(256)
        for low, high in zip(low_C.astype(float), high_C.astype(float), strict=True)
    ]
    return _look_up(frame_HWC, tables)


def _equalize(frame_HWC: np.ndarray, _share: float, _sign: float) -> np.ndarray:
    """Each channel's histogram made flat, by whole steps as Pillow does it."""
    tables: list[np.ndarray] = []
    for channel_HW in np.moveaxis(frame_HWC, 2, 0):
        counts = np.bincount(channel_HW.ravel(), minlength=256)
        step = int(counts.sum() - counts[counts > 0][-1]) // 255
        below = np.cumsum(counts) - counts
        tables.append(np.arange(256) if step == 0 else np.minimum((step // 2 + below) // step, 255))
    return _look_up(frame_HWC, tables)


def _look_up(frame_HWC: np.ndarray, tables: list[np.ndarray]) -> np.ndarray:
    table_C = np.stack(tables, axis=1).astype(np.uint8)
    return table_C[frame_HWC, np.arange(len(tables))]


def _brighten(frame_HWC: np.ndarray, share: float, _sign: float) -> np.ndarray:
    return np.clip(frame_HWC * np.float32(_factor(share)), 0, 255).astype(np.uint8)


def _sharpen(frame_HWC: np.ndarray, share: float, _sign: float) -> np.ndarray:
    """Away from the smoothed frame; its edge of one pixel stays."""
    import cv2  # a part of the CPU's decoding, which a machine that only takes steps may lack

    smooth_HWC = cv2.filter2D(frame_HWC, -1, _SMOOTHING).astype(np.float32)
    sharp_HWC = smooth_HWC + _factor(share) * (frame_HWC - smooth_HWC)
    result_HWC = frame_HWC.copy()
    result_HWC[1:-1, 1:-1] = np.clip(sharp_HWC, 0, 255).astype(np.uint8)[1:-1, 1:-1]
    return result_HWC


def _factor(share: float) -> float:
    """0.1 to 1.9; strength 5 of 10, the released one, is exactly 1: brightness and sharpness then change nothing."""
    return 0.1 + 1.8 * share


def _shear_x(frame_HWC: np.ndarray, share: float, sign: float) -> np.ndarray:
    return _warp(frame_HWC, [[1, sign * share * _MAX_SHEAR, 0], [0, 1, 0]])


def _shear_y(frame_HWC: np.ndarray, share: float, sign: float) -> np.ndarray:
    return _warp(frame_HWC, [[1, 0, 0], [sign * share * _MAX_SHEAR, 1, 0]])


def _shift_x(frame_HWC: np.ndarray, share: float, sign: float) -> np.ndarray:
    return _warp(frame_HWC, [[1, 0, -sign * share * _MAX_SHIFT_PX], [0, 1, 0]])


def _shift_y(frame_HWC: np.ndarray, share: float, sign: float) -> np.ndarray:
    return _warp(frame_HWC, [[1, 0, 0], [0, 1, -sign * share * _MAX_SHIFT_PX]])


def _rotate(frame_HWC: np.ndarray, share: float, sign: float) -> np.ndarray:
    height, width = frame_HWC.shape[:2]
    degrees = sign * share * _MAX_DEGREES
    import cv2

    return _warp(frame_HWC, cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1))


def _warp(frame_HWC: np.ndarray, matrix: list[list[float]] | np.ndarray) -> np.ndarray:
    """What comes from outside the frame is grey."""
    height, width = frame_HWC.shape[:2]
    import cv2

    return cv2.warpAffine(
        frame_HWC,
        np.asarray(matrix, np.float32),
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=_GREY,
    )


OPERATIONS: dict[str, Operation] = {
    "identity": lambda frame_HWC, _share, _sign: frame_HWC,
    "auto_contrast": _stretch_contrast,
    "brightness": _brighten,
    "sharpness": _sharpen,
    "equalize": _equalize,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _shift_x,
    "translate_y": _shift_y,
    "rotate": _rotate,
}
"""Name -> operation, each drawn as often."""
