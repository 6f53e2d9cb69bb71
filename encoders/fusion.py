"""How do a clip vector and a text vector become one query vector? The paper's Combiner, and a plain mean to measure it by.

N queries, V width of clip vectors, D width of text vectors.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FusionKind = Literal["combiner", "mean"]
FusionInputs = Literal["both", "video", "text"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FusionConfig:
    """A fusion; query vectors have the width of clip vectors."""

    kind: FusionKind
    video_dim: int
    text_dim: int
    inputs: FusionInputs = "both"
    """`video` and `text`: the other input is zeroed, in training and after."""
    projection_dim: int = 3072
    """Combiner only: width of each projected input."""
    hidden_dim: int = 6144
    """Combiner only: width of the hidden layers."""
    dropout: float = 0.5
    """Combiner only."""

    def __post_init__(self) -> None:
        if self.kind not in _FUSIONS:
            raise ValueError(
                f"fusion kind {self.kind!r} is unknown; choose one of {sorted(_FUSIONS)}"
            )
        if self.inputs not in ("both", "video", "text"):
            raise ValueError(f"inputs is {self.inputs!r}; choose 'both', 'video' or 'text'")
        if min(self.video_dim, self.text_dim, self.projection_dim, self.hidden_dim) < 1:
            raise ValueError(f"every width must be at least 1; got {self}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must lie in [0, 1)")


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
        video_NV, text_NV = self.project(video_NV, text_ND)
        if self.config.inputs == "text":
            video_NV = torch.zeros_like(video_NV)
        if self.config.inputs == "video":
            text_NV = torch.zeros_like(text_NV)
        return F.normalize(self.fuse(video_NV, text_NV), dim=-1)


class Combiner(Fusion):
    """CLIP4Cir's Combiner: a learned residue beside a gated mix of the text and the clip vector.

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
        """Residue + share * text + (1 - share) * video."""
        both = torch.cat(
            [
                self._drop(F.relu(self.text_projection(text_NV))),
                self._drop(F.relu(self.video_projection(video_NV))),
            ],
            dim=-1,
        )
        residue_NV = self.out(self._drop(F.relu(self.combine(both))))
        share_N1 = torch.sigmoid(self.gate_out(self._drop(F.relu(self.gate_hidden(both)))))
        return residue_NV + share_N1 * text_NV + (1 - share_N1) * video_NV

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, training=self.training)


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


_FUSIONS: dict[str, type[Fusion]] = {"combiner": Combiner, "mean": MeanFusion}

# Widths of the Combiner; video_dim and text_dim come from the encoders at hand.
FUSION_WIDTHS: dict[str, dict[str, Any]] = {
    "paper": {"projection_dim": 3072, "hidden_dim": 6144, "dropout": 0.5},
    "small": {"projection_dim": 512, "hidden_dim": 1024, "dropout": 0.3},
}


def build_fusion(config: FusionConfig) -> Fusion:
    """A new fusion with random weights."""
    return _FUSIONS[config.kind](config)


def fusion_config_to_dict(config: FusionConfig) -> dict[str, Any]:
    """What the card keeps."""
    return asdict(config)


def fusion_config_from_dict(values: Mapping[str, Any]) -> FusionConfig:
    """The config that a card describes; ValueError for an unknown or missing key."""
    unknown = sorted(set(values) - {field.name for field in fields(FusionConfig)})
    if unknown:
        raise ValueError(f"a fusion has no {', '.join(map(repr, unknown))}")
    try:
        return FusionConfig(**values)
    except TypeError as error:
        raise ValueError(f"not a fusion: {error}") from error
