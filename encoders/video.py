"""Which video encoders exist? Presets, building by config, and a config's round trip through the card."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from encoders.aim import AIM_PRESETS, AimConfig, AimEncoder
from encoders.frame_temporal import FrameTemporalConfig, FrameTemporalEncoder
from encoders.video_base import VideoEncoder

VideoEncoderConfig = AimConfig | FrameTemporalConfig


@dataclass(frozen=True, slots=True)
class _Kind:
    config: type
    encoder: Callable[[Any], VideoEncoder]


_KINDS: dict[str, _Kind] = {
    "aim": _Kind(AimConfig, AimEncoder),
    "frame_temporal": _Kind(FrameTemporalConfig, FrameTemporalEncoder),
}

PRESETS: dict[str, VideoEncoderConfig] = {
    **AIM_PRESETS,
    "frame_temporal_small": FrameTemporalConfig(),
}


def build_video_encoder(config: VideoEncoderConfig) -> VideoEncoder:
    """A new encoder with random weights."""
    return _kind(config.kind).encoder(config)


def video_config_to_dict(config: VideoEncoderConfig) -> dict[str, Any]:
    """What the card keeps; JSON types only, `video_config_from_dict` is its inverse."""
    omitted = {
        field.name
        for field in fields(config)
        if field.metadata.get("omit_default") and getattr(config, field.name) == field.default
    }
    return _plain({name: value for name, value in asdict(config).items() if name not in omitted})


def video_config_from_dict(values: Mapping[str, Any]) -> VideoEncoderConfig:
    """The config that a card describes; ValueError for an unknown kind or key."""
    config_class = _kind(values.get("kind")).config
    known = {field.name for field in fields(config_class)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(
            f"a {values['kind']!r} encoder has no {', '.join(map(repr, unknown))}; it has {sorted(known)}"
        )
    try:
        return config_class(**values)
    except TypeError as error:
        raise ValueError(f"not a {values['kind']!r} encoder: {error}") from error


def _kind(name: Any) -> _Kind:
    if name not in _KINDS:
        raise ValueError(f"video encoder kind {name!r} is unknown; choose one of {sorted(_KINDS)}")
    return _KINDS[name]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
