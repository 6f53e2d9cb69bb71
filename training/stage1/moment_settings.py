"""Options of the training of the moment head: light, since `tfcovr moments --help` shows them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from encoders.media.container import MediaLimits
from encoders.video_encoder.config import MomentConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class MomentTraining:
    """Train the head that finds moments (spans that nobody gave) in long videos; it becomes a part of the bundle.

    The clips name every action of their videos: what lies between them counts as dead time. Clips with the attribute `replay_of`
    are replays. Where nothing is labelled, the shots that `tfcovr split --by shots` writes will do: the head then finds shots.
    """

    bundle: Path
    """The bundle of a finished training; its encoder id stays as it is."""
    clips: Path
    """Clips of long videos, with start and end. Videos of the split val choose the settings; without any, every fifth video."""
    head: Annotated[MomentConfig, tyro.conf.Suppress] = field(default_factory=MomentConfig)
    num_steps: int = 350
    batch_size: int = 4
    """Stretches per step."""
    stretch: int = 96
    """Glances per stretch."""
    learning_rate: float = 2e-3
    max_hours: float = 20.0
    """No more video than this is kept in memory (a quarter of a gigabyte an hour); the rest is left out."""
    seed: int = 0
    limits: MediaLimits = field(default_factory=MediaLimits)

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "stretch", "learning_rate", "max_hours"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
