"""The composer of stage 2, untrained and at chosen widths: what benchmarks of its arithmetic and speed run."""

from dataclasses import dataclass

from encoders.query_encoder.config import FusionConfig
from encoders.query_encoder.fusion import build_fusion
from training.configs import Stage2Config
from training.stage2.composer import QueryComposer


@dataclass(frozen=True, kw_only=True, slots=True)
class ComposerWidths:
    """Widths of the Combiner; the defaults are the paper's."""

    video_dim: int = 768
    text_dim: int = 768
    projection_dim: int = 3072
    hidden_dim: int = 6144


def untrained_composer(widths: ComposerWidths, config: Stage2Config) -> QueryComposer:
    """Without a text encoder: text vectors are given."""
    fusion = FusionConfig(
        kind="combiner",
        video_dim=widths.video_dim,
        text_dim=widths.text_dim,
        projection_dim=widths.projection_dim,
        hidden_dim=widths.hidden_dim,
        dropout=config.dropout,
    )
    return QueryComposer(build_fusion(fusion), None, config)
