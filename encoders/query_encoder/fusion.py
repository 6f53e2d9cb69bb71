"""Fusion of a clip vector and a text vector to one query vector, by kind: the paper's Combiner, factors, and a plain mean as the baseline.

N queries, V width of clip vectors, D width of text vectors.
"""

from typing import Any

from torch import Tensor, nn

from encoders.query_encoder.combiner import Combiner, Fusion
from encoders.query_encoder.config import FusionConfig
from encoders.query_encoder.factored import FactoredFusion


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


_FUSIONS: dict[str, type[Fusion]] = {
    "combiner": Combiner,
    "mean": MeanFusion,
    "factored": FactoredFusion,
}

# Widths of the Combiner; video_dim and text_dim come from the encoders at hand.
FUSION_WIDTHS: dict[str, dict[str, Any]] = {
    "paper": {"projection_dim": 3072, "hidden_dim": 6144, "dropout": 0.5},
    "small": {"projection_dim": 512, "hidden_dim": 1024, "dropout": 0.3},
}


def build_fusion(config: FusionConfig) -> Fusion:
    """A new fusion with random weights."""
    return _FUSIONS[config.kind](config)
