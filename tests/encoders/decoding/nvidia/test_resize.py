"""The resize on a device has the bits of the host's, in torch and in the Triton kernel."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from encoders.decoding.frames.bicubic import resize_bicubic
from encoders.decoding.nvidia.resize import resize_frames

IN_INTERPRETER = """
import numpy as np, torch
from encoders.decoding.nvidia.resize import launch_bicubic, resample_bicubic
rng = np.random.default_rng(0)
for outer, old, inner, new in ((3, 90, 9, 40), (2, 17, 12, 40), (1, 300, 6, 24)):
    pixels = torch.from_numpy(rng.integers(0, 256, (outer, old, inner)).astype(np.uint8))
    assert torch.equal(launch_bicubic(pixels, new), resample_bicubic(pixels, new)), (old, new)
"""


@pytest.mark.parametrize(
    ("height", "width", "size"), [(720, 1280, 224), (31, 57, 40), (40, 90, 40)]
)
def test_a_run_of_frames_has_the_bits_of_the_host(height, width, size):
    rng = np.random.default_rng(height)
    frames = rng.integers(0, 256, (2, height, width, 3)).astype(np.uint8)
    frames[1] = np.where(frames[1] > 127, 255, 0)  # sums above 255 and below 0
    resized = resize_frames(torch.from_numpy(frames), size, "pillow_bicubic").numpy()
    for frame, expected in zip(resized, frames, strict=True):
        np.testing.assert_array_equal(frame, resize_bicubic(expected, size, size))


def test_the_kernel_computes_the_same_sums():
    """By Triton's interpreter, which runs a kernel's operations on the CPU."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed: it comes with torch for CUDA")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", IN_INTERPRETER], check=True, env=environment)
