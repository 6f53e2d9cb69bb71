"""Attention over frames is softmax attention per token, in torch and in the Triton kernels, with its gradient."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from encoders.video_encoder.time_attention import attend_over_frames

IN_INTERPRETER = """
import torch
from encoders.video_encoder.time_attention import attend_over_frames, launch_backward, launch_forward
torch.manual_seed(0)
for clips, frames, tokens, heads, width in ((2, 12, 5, 3, 16), (1, 16, 3, 2, 32), (2, 7, 4, 2, 64), (1, 33, 2, 1, 16)):
    qkv = torch.randn(clips, frames, tokens, 3 * heads * width, requires_grad=True)
    expected = attend_over_frames(qkv, heads)
    upstream = torch.randn_like(expected)
    expected.backward(upstream)
    torch.testing.assert_close(launch_forward(qkv.detach(), heads), expected.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(launch_backward(upstream, qkv.detach(), heads), qkv.grad, atol=1e-5, rtol=1e-5)
"""


@pytest.mark.parametrize(("num_frames", "num_heads"), [(1, 1), (12, 3), (40, 2)])
def test_each_token_and_head_attends_over_its_own_frames(num_frames, num_heads):
    torch.manual_seed(num_frames)
    qkv_NTLD = torch.randn(2, num_frames, 4, 3 * num_heads * 8, dtype=torch.float64)
    found_NTLD = attend_over_frames(qkv_NTLD, num_heads)
    query, key, value = qkv_NTLD.unflatten(-1, (3, num_heads, 8)).unbind(3)
    for token in range(4):
        for head in range(num_heads):
            q, k, v = (part[:, :, token, head] for part in (query, key, value))
            weights = (q @ k.transpose(1, 2) / 8**0.5).softmax(-1)
            found = found_NTLD[:, :, token, 8 * head : 8 * head + 8]
            torch.testing.assert_close(found, weights @ v)


def test_the_kernels_compute_the_same_and_its_gradient():
    """By Triton's interpreter, which runs a kernel's operations on the CPU."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed: it comes with torch for CUDA")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", IN_INTERPRETER], check=True, env=environment)
