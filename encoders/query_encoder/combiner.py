"""The paper's Combiner: a clip vector and a text vector to one query vector, by a learned residual beside a gated mix.

N queries, V width of clip vectors, D width of text vectors.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.query_encoder.config import FusionConfig


class Fusion(nn.Module):
    """Base: (unit clip vectors [N, V], text vectors [N, D]) -> unit query vectors [N, V]."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config

    def fuse(self, video_NV: Tensor, text_NV: Tensor) -> Tensor:
        """Both inputs at the width of clip vectors -> query vectors, not yet unit length."""
        raise NotImplementedError(f"{type(self).__name__} must define fuse()")

    def project(self, video_NV: Tensor, text_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Bring both inputs to one width."""
        raise NotImplementedError(f"{type(self).__name__} must define project()")

    def forward(self, video_NV: Tensor, text_ND: Tensor) -> Tensor:
        return F.normalize(self.fuse(*self.masked(*self.project(video_NV, text_ND))), dim=-1)

    def masked(self, video_NV: Tensor, text_NV: Tensor) -> tuple[Tensor, Tensor]:
        """Zeros for the input that the config leaves out."""
        if self.config.inputs == "text":
            video_NV = torch.zeros_like(video_NV)
        if self.config.inputs == "video":
            text_NV = torch.zeros_like(text_NV)
        return video_NV, text_NV


class Combiner(Fusion):
    """CLIP4Cir's Combiner: a learned residual beside a gated mix of the text and the clip vector.

    The text comes in through a linear layer to the width of clip vectors and is made unit length, as in the paper.
    """

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        width, projected, hidden = config.video_dim, config.projection_dim, config.hidden_dim
        self.text_in = nn.Linear(config.text_dim, width)
        self.text_projection = nn.Linear(width, projected)
        self.video_projection = nn.Linear(width, projected)
        self.combine = nn.Linear(2 * projected, hidden)
        self.out = nn.Linear(hidden, width)
        self.gate_hidden = nn.Linear(2 * projected, hidden)
        self.gate_out = nn.Linear(hidden, 1)

    def project(self, video_NV: Tensor, text_ND: Tensor) -> tuple[Tensor, Tensor]:
        """The clip vector as it is, the text at its width and unit length."""
        return video_NV, F.normalize(self.text_in(text_ND), dim=-1)

    def fuse(self, video_NV: Tensor, text_NV: Tensor) -> Tensor:
        """Residual + gate * text + (1 - gate) * video."""
        both = torch.cat(
            [
                self._drop(F.relu(self.text_projection(text_NV))),
                self._drop(F.relu(self.video_projection(video_NV))),
            ],
            dim=-1,
        )
        residual_NV = self.out(self._drop(F.relu(self.combine(both))))
        gate_N1 = torch.sigmoid(self.gate_out(self._drop(F.relu(self.gate_hidden(both)))))
        return residual_NV + gate_N1 * text_NV + (1 - gate_N1) * video_NV

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, training=self.training)
