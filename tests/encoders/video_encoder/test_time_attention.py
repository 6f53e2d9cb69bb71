"""Attention over frames by the Triton kernels is softmax attention per token and head, with its gradient."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from encoders.video_encoder.time_attention import has_kernel
from tests.support.attention import attention_per_token

IN_INTERPRETER = """
import torch
from encoders.video_encoder.time_attention import launch_backward, launch_forward
from tests.support.attention import attention_per_token
torch.manual_seed(0)
for clips, frames, tokens, heads, width in ((2, 12, 5, 3, 16), (1, 16, 3, 2, 32), (2, 7, 4, 2, 64), (1, 33, 2, 1, 16)):
    qkv = torch.randn(clips, frames, tokens, 3 * heads * width, requires_grad=True)
    expected = attention_per_token(qkv, heads)
    upstream = torch.randn_like(expected)
    expected.backward(upstream)
    torch.testing.assert_close(launch_forward(qkv.detach(), heads), expected.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(launch_backward(upstream, qkv.detach(), heads), qkv.grad, atol=1e-5, rtol=1e-5)
"""


def test_the_kernels_compute_attention_and_its_gradient():
    """By Triton's interpreter, which runs a kernel's operations on the CPU."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed: it comes with torch for CUDA")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", IN_INTERPRETER], check=True, env=environment)


def test_the_reference_is_torchs_attention_and_a_cpu_has_no_kernel():
    qkv_NTLD = torch.randn(2, 5, 3, 3 * 2 * 16, dtype=torch.float64)
    query, key, value = (
        part.unflatten(-1, (2, -1)).permute(0, 2, 3, 1, 4) for part in qkv_NTLD.chunk(3, dim=-1)
    )
    mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    expected_NTLD = mixed.permute(0, 3, 1, 2, 4).flatten(3)
    torch.testing.assert_close(attention_per_token(qkv_NTLD, 2), expected_NTLD)
    assert not has_kernel(expected_NTLD, 2)
