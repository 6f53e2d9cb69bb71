"""Attention over frames by its definition, token by token and head by head; the reference of a kernel."""

import torch
from torch import Tensor


def attention_per_token(qkv_NTLD: Tensor, num_heads: int) -> Tensor:
    """Query, key and value side by side [N, T, L, 3 * D] -> [N, T, L, D]."""
    query, key, value = qkv_NTLD.unflatten(-1, (3, num_heads, -1)).unbind(3)
    heads = []
    for token in range(qkv_NTLD.shape[2]):
        for head in range(num_heads):
            q, k, v = (part[:, :, token, head] for part in (query, key, value))
            heads.append((q @ k.transpose(1, 2) * q.shape[-1] ** -0.5).softmax(-1) @ v)
    tokens = [torch.cat(heads[n : n + num_heads], dim=-1) for n in range(0, len(heads), num_heads)]
    return torch.stack(tokens, dim=2)
