"""The resize of a device has the bits of the host's: Pillow's where it is bicubic, within a level of FFmpeg's where it averages."""

import numpy as np
import pytest
import torch

from encoders.bicubic import resize_bicubic
from encoders.decode_pixels import PictureMaker
from encoders.resize_tensor import resize_tensor
from encoders.sampling import SamplingConfig


@pytest.mark.parametrize("largest", [6, 40, 300])
def test_bicubic_has_the_bits_of_the_host(largest):
    rng = np.random.default_rng(largest)
    for number in range(60):
        height, width, size = (int(n) for n in rng.integers(1, largest, 3))
        width = size if number % 7 == 0 else width
        frame = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        if number % 2:
            frame = np.where(frame > 127, np.uint8(255), np.uint8(0))
        np.testing.assert_array_equal(
            resize_tensor(torch.from_numpy(frame), size, "pillow_bicubic").numpy(),
            resize_bicubic(frame, size, size),
            err_msg=f"{height}x{width} to {size}x{size}",
        )


@pytest.mark.parametrize(("height", "width"), [(240, 320), (200, 333), (57, 80)])
def test_area_is_within_a_level_of_what_the_host_makes(height, width):
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    sampling = SamplingConfig(num_frames=2, frame_size=40, resize="swscale_area")
    expected = PictureMaker(sampling).resized(frame).astype(int)
    found = resize_tensor(torch.from_numpy(frame), 40, "swscale_area").numpy()
    assert np.abs(found - expected).max() <= 2
    assert np.abs(found - expected).mean() < 0.6


def test_a_frame_of_the_size_is_left_alone():
    frame = torch.zeros((8, 8, 3), dtype=torch.uint8)
    assert resize_tensor(frame, 8, "pillow_bicubic") is frame
