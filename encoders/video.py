"""Which video encoders exist? Presets, and building by config."""

from collections.abc import Callable
from typing import Any

from encoders.aim import AIM_PRESETS, AimEncoder
from encoders.frame_temporal import FrameTemporalEncoder
from encoders.shapes import FrameTemporalConfig, VideoEncoderConfig
from encoders.video_base import VideoEncoder

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
