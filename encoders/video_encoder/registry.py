"""The table of video encoders: presets, and building by config."""

from collections.abc import Callable
from typing import Any

from encoders.video_encoder.aim import AimEncoder
from encoders.video_encoder.base import VideoEncoder
from encoders.video_encoder.config import VideoEncoderConfig
from encoders.video_encoder.frame_temporal import FrameTemporalEncoder
from encoders.video_encoder.frozen import FrozenEncoder

_ENCODERS: dict[str, Callable[[Any], VideoEncoder]] = {
    "aim": AimEncoder,
    "frame_temporal": FrameTemporalEncoder,
    "frozen": FrozenEncoder,
}


def build_video_encoder(config: VideoEncoderConfig) -> VideoEncoder:
    """A new encoder with random weights."""
    return _ENCODERS[config.kind](config)
