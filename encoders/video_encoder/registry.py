"""Which video encoders exist? Presets, and building by config."""

from collections.abc import Callable
from typing import Any

from encoders.video_encoder.aim import AIM_PRESETS, AimEncoder
from encoders.video_encoder.base import VideoEncoder
from encoders.video_encoder.config import FrameTemporalConfig, VideoEncoderConfig
from encoders.video_encoder.frame_temporal import FrameTemporalEncoder

_ENCODERS: dict[str, Callable[[Any], VideoEncoder]] = {
    "aim": AimEncoder,
    "frame_temporal": FrameTemporalEncoder,
}

PRESETS: dict[str, VideoEncoderConfig] = {
    **AIM_PRESETS,
    "frame_temporal_small": FrameTemporalConfig(),
}


def build_video_encoder(config: VideoEncoderConfig) -> VideoEncoder:
    """A new encoder with random weights."""
    return _ENCODERS[config.kind](config)
