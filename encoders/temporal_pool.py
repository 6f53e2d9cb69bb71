"""How do the vectors of a clip's frames become one vector that depends on their order? Attention with temporal positions.

N clips, T frames, D width.
"""

import torch
from torch import Tensor, nn


class TemporalPool(nn.Module):
    """Mean over frames plus what one learned question reads from them, each frame with its learned position.

    Different heads can ask for different moments. The last layer starts at zero, so that a new pool is the paper's mean.
    """

    def __init__(self, num_frames: int, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.positions = nn.Parameter(torch.randn(num_frames, width) * 0.02)
        self.question = nn.Parameter(torch.randn(width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, frames_NTD: Tensor) -> Tensor:
        """Frame vectors [N, T, D] -> clip vectors [N, D]."""
        placed_NTD = self.norm(frames_NTD) + self.positions
        # [N, T, 2 * heads * head] -> 2 of [N, heads, T, head]
        key, value = (
            self.key_value(placed_NTD).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        )
        question = self.question.view(1, self.num_heads, 1, -1)
        share = ((question * key).sum(dim=-1, keepdim=True) * key.shape[-1] ** -0.5).softmax(dim=2)
        return frames_NTD.mean(dim=1) + self.out((share * value).sum(dim=2).flatten(1))
