"""Attention of each token over the frames of its clip, in one kernel, forward and backward.

Kernels for long sequences work in tiles of 64 or 128 rows, of which a clip's 12 frames fill a tenth: on an H200 they took a quarter of
AIM's time. Here a program has one token of one head, its frames padded to a tile of 16, and reads query, key and value where the
projection wrote them.

N clips, T frames, L tokens of a picture, D width, H heads.
"""

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

# Told once: torch.compile follows calls, and would break its graph at an import.
_HAS_TRITON = importlib.util.find_spec("triton") is not None
_MAX_FRAMES = 64
_HEAD_WIDTHS = (16, 32, 64, 128)


def has_kernel(x_NTLD: Tensor, num_heads: int) -> bool:
    """Whether attention of `num_heads` over the frames of [N, T, L, D] is done by the kernel: on a GPU, where a tile fits."""
    fits = x_NTLD.shape[1] <= _MAX_FRAMES and x_NTLD.shape[-1] // num_heads in _HEAD_WIDTHS
    return x_NTLD.is_cuda and fits and _HAS_TRITON


def attend_over_frames(qkv_NTLD: Tensor, num_heads: int) -> Tensor:
    """Query, key and value side by side [N, T, L, 3 * D] -> [N, T, L, D]: softmax(q k / sqrt(D / H)) v over T; needs `has_kernel`."""
    return _over_frames(qkv_NTLD.contiguous(), num_heads)


@torch.library.custom_op("tfcovr::attend_over_frames", mutates_args=())
def _over_frames(qkv_NTLD: Tensor, num_heads: int) -> Tensor:
    return launch_forward(qkv_NTLD, num_heads)


@_over_frames.register_fake
def _over_frames_shape(qkv_NTLD: Tensor, num_heads: int) -> Tensor:
    del num_heads
    return qkv_NTLD.new_empty((*qkv_NTLD.shape[:3], qkv_NTLD.shape[3] // 3))


@torch.library.custom_op("tfcovr::attend_over_frames_backward", mutates_args=())
def _over_frames_backward(grad_NTLD: Tensor, qkv_NTLD: Tensor, num_heads: int) -> Tensor:
    return launch_backward(grad_NTLD, qkv_NTLD, num_heads)


@_over_frames_backward.register_fake
def _over_frames_backward_shape(grad_NTLD: Tensor, qkv_NTLD: Tensor, num_heads: int) -> Tensor:
    del grad_NTLD, num_heads
    return torch.empty_like(qkv_NTLD)


def _keep_for_backward(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
    del output
    qkv_NTLD, ctx.num_heads = inputs
    ctx.save_for_backward(qkv_NTLD)


def _differentiate(ctx: Any, grad_NTLD: Tensor) -> tuple[Tensor, None]:
    (qkv_NTLD,) = ctx.saved_tensors
    return _over_frames_backward(grad_NTLD.contiguous(), qkv_NTLD, ctx.num_heads), None


_over_frames.register_autograd(_differentiate, setup_context=_keep_for_backward)


def launch_forward(qkv_NTLD: Tensor, num_heads: int) -> Tensor:
    """As attend_over_frames, by the kernel; `qkv_NTLD` is contiguous."""
    out_NTLD = qkv_NTLD.new_empty((*qkv_NTLD.shape[:3], qkv_NTLD.shape[3] // 3))
    _launch("forward", (qkv_NTLD, out_NTLD), qkv_NTLD.shape, num_heads)
    return out_NTLD


def launch_backward(grad_NTLD: Tensor, qkv_NTLD: Tensor, num_heads: int) -> Tensor:
    """The gradient of launch_forward's argument from that of its result; both contiguous."""
    grad_qkv_NTLD = torch.empty_like(qkv_NTLD)
    _launch("backward", (grad_NTLD, qkv_NTLD, grad_qkv_NTLD), qkv_NTLD.shape, num_heads)
    return grad_qkv_NTLD


def _launch(name: str, tensors: Sequence[Tensor], shape: torch.Size, num_heads: int) -> None:
    """A program for each token of each clip and each head; `shape` is that of query, key and value."""
    found = kernels()
    if found is None:
        raise ImportError("the kernel needs the package 'triton', which comes with torch for CUDA")
    num_clips, num_frames, num_tokens, width = shape
    head = width // 3 // num_heads
    device = tensors[0].device
    # Triton launches on the current device. A matrix product of it has at least 16 rows.
    with torch.cuda.device(device if device.type == "cuda" else -1):
        found[name][(num_clips * num_tokens, num_heads)](
            *tensors,
            num_frames,
            num_tokens,
            num_heads,
            head**-0.5,
            ROWS=max(16, 1 << (num_frames - 1).bit_length()),
            HEAD=head,
            num_warps=1,
        )


@lru_cache(1)
def kernels() -> dict[str, Any] | None:
    """`forward` and `backward`, compiled for their first use; None where Triton is not installed."""
    try:
        import triton  # pyright: ignore[reportMissingImports]
        import triton.language as tl  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None

    @triton.jit
    def forward(  # noqa: ANN202, PLR0913 - a kernel's arguments are what it reads
        qkv,  # noqa: ANN001
        out,  # noqa: ANN001
        num_frames,  # noqa: ANN001
        num_tokens,  # noqa: ANN001
        num_heads,  # noqa: ANN001
        scale,  # noqa: ANN001
        ROWS: tl.constexpr,
        HEAD: tl.constexpr,
    ):
        place, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
        clip, token = place // num_tokens, place % num_tokens
        frame, column = tl.arange(0, ROWS), tl.arange(0, HEAD)
        is_frame = frame < num_frames
        row = (clip * num_frames + frame) * num_tokens + token
        width = num_heads * HEAD
        source = qkv + row[:, None] * (3 * width) + head * HEAD + column[None, :]
        query = tl.load(source, mask=is_frame[:, None], other=0.0)
        key = tl.load(source + width, mask=is_frame[:, None], other=0.0)
        value = tl.load(source + 2 * width, mask=is_frame[:, None], other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        scores = tl.where(is_frame[None, :], scores, float("-inf"))
        weights = tl.exp(scores - tl.max(scores, 1)[:, None])
        weights = weights / tl.sum(weights, 1)[:, None]
        mixed = tl.dot(weights.to(value.dtype), value, input_precision="ieee")
        target = out + row[:, None] * width + head * HEAD + column[None, :]
        tl.store(target, mixed.to(value.dtype), mask=is_frame[:, None])

    @triton.jit
    def backward(  # noqa: ANN202, PLR0913
        grad,  # noqa: ANN001
        qkv,  # noqa: ANN001
        grad_qkv,  # noqa: ANN001
        num_frames,  # noqa: ANN001
        num_tokens,  # noqa: ANN001
        num_heads,  # noqa: ANN001
        scale,  # noqa: ANN001
        ROWS: tl.constexpr,
        HEAD: tl.constexpr,
    ):
        place, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
        clip, token = place // num_tokens, place % num_tokens
        frame, column = tl.arange(0, ROWS), tl.arange(0, HEAD)
        is_frame = frame < num_frames
        mask = is_frame[:, None]
        row = (clip * num_frames + frame) * num_tokens + token
        width = num_heads * HEAD
        offset = row[:, None] * (3 * width) + head * HEAD + column[None, :]
        query = tl.load(qkv + offset, mask=mask, other=0.0)
        key = tl.load(qkv + offset + width, mask=mask, other=0.0)
        value = tl.load(qkv + offset + 2 * width, mask=mask, other=0.0)
        upstream = tl.load(
            grad + row[:, None] * width + head * HEAD + column[None, :], mask=mask, other=0.0
        ).to(value.dtype)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        scores = tl.where(is_frame[None, :], scores, float("-inf"))
        weights = tl.exp(scores - tl.max(scores, 1)[:, None])
        weights = weights / tl.sum(weights, 1)[:, None]
        low = weights.to(value.dtype)
        grad_value = tl.dot(tl.trans(low), upstream, input_precision="ieee")
        grad_weights = tl.dot(upstream, tl.trans(value), input_precision="ieee")
        mean = tl.sum(grad_weights * weights, 1)
        grad_scores = (weights * (grad_weights - mean[:, None]) * scale).to(value.dtype)
        grad_query = tl.dot(grad_scores, key, input_precision="ieee")
        grad_key = tl.dot(tl.trans(grad_scores), query, input_precision="ieee")
        tl.store(grad_qkv + offset, grad_query.to(value.dtype), mask=mask)
        tl.store(grad_qkv + offset + width, grad_key.to(value.dtype), mask=mask)
        tl.store(grad_qkv + offset + 2 * width, grad_value.to(value.dtype), mask=mask)

    return {"forward": forward, "backward": backward}
