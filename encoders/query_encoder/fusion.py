"""Fusion of a clip vector and a text vector to one query vector, by kind.

The paper's Combiner, cross-attention, factors, a mean of two projections, and a sum without weights.

N queries, V width of clip vectors, D width of text vectors.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from encoders.query_encoder.combiner import Combiner, Fusion
from encoders.query_encoder.config import FusionConfig
from encoders.query_encoder.factored import FactoredFusion


class CrossAttention(Fusion):
    """TF-CoVR's CrossAttentionCombiner: text and clip vector attend to each other, beside a linear layer of each.

    Either is a sequence of one vector, so that all attention goes to it.
    """

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        width = config.video_dim
        self.text_in = nn.Linear(config.text_dim, width)
        self.text_to_video = nn.MultiheadAttention(
            width, config.num_heads, dropout=config.dropout, batch_first=True
        )
        self.video_to_text = nn.MultiheadAttention(
            width, config.num_heads, dropout=config.dropout, batch_first=True
        )
        self.text_projection = nn.Linear(width, width)
        self.video_projection = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, width)

    def project(self, video_NV: Tensor, text_ND: Tensor) -> tuple[Tensor, Tensor]:
        """As the Combiner's."""
        return video_NV, F.normalize(self.text_in(text_ND), dim=-1)

    def fuse(self, video_NV: Tensor, text_NV: Tensor) -> Tensor:
        """Linear layer of the normed sum: the mean of both attentions and the two projections."""
        video_N1V, text_N1V = video_NV[:, None], text_NV[:, None]
        from_video, _ = self.text_to_video(text_N1V, video_N1V, video_N1V, need_weights=False)
        from_text, _ = self.video_to_text(video_N1V, text_N1V, text_N1V, need_weights=False)
        mixed_NV = (from_video[:, 0] + from_text[:, 0]) / 2
        sum_NV = mixed_NV + self.text_projection(text_NV) + self.video_projection(video_NV)
        return self.out(F.dropout(self.norm(sum_NV), self.config.dropout, training=self.training))


class MeanFusion(Fusion):
    """Two linear projections, averaged."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        self.video_projection = nn.Linear(config.video_dim, config.video_dim)
        self.text_projection = nn.Linear(config.text_dim, config.video_dim)

    def project(self, video_NV: Tensor, text_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Each through its own linear layer."""
        return self.video_projection(video_NV), self.text_projection(text_ND)

    def fuse(self, video_NV: Tensor, text_NV: Tensor) -> Tensor:
        """Their mean."""
        return (video_NV + text_NV) / 2


class SumFusion(Fusion):
    """The sum of both unit vectors, without weights: for a text encoder whose vectors lie in the space of clip vectors, as CLIP's do."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__(config)
        if config.video_dim != config.text_dim:
            raise ValueError(
                f"video_dim is {config.video_dim} and text_dim {config.text_dim}; a sum needs them to be equal"
            )

    def project(self, video_NV: Tensor, text_ND: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors; zeros stay zeros, so that a text alone is its own vector."""
        return F.normalize(video_NV, dim=-1), F.normalize(text_ND, dim=-1)

    def fuse(self, video_NV: Tensor, text_NV: Tensor) -> Tensor:
        """Their sum."""
        return video_NV + text_NV


_FUSIONS: dict[str, type[Fusion]] = {
    "combiner": Combiner,
    "mean": MeanFusion,
    "factored": FactoredFusion,
    "cross_attention": CrossAttention,
    "sum": SumFusion,
}

# Widths of the Combiner; video_dim and text_dim come from the encoders at hand.
FUSION_WIDTHS: dict[str, dict[str, Any]] = {
    "paper": {"projection_dim": 3072, "hidden_dim": 6144, "dropout": 0.5},
    "small": {"projection_dim": 512, "hidden_dim": 1024, "dropout": 0.3},
}


def build_fusion(config: FusionConfig) -> Fusion:
    """A new fusion with random weights."""
    return _FUSIONS[config.kind](config)
