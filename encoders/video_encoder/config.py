"""Video encoder configs: architecture, presets and preprocessing, as a card describes them.

No torch here: what only reads a card (indexing, verify) starts without it.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from encoders.files import read_value

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_OMIT_DEFAULT = {"omit_default": True}
_POOLINGS = ("mean", "attention")

TemporalKind = Literal["ordered", "single", "mean"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """(pixel / 255 - mean) / std for red, green and blue; recorded in the card."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        is_finite = all(map(math.isfinite, (*self.mean, *self.std)))
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0 or not is_finite:
            raise ValueError(
                f"mean is {self.mean} and std is {self.std}; both need three finite numbers, std above 0"
            )


POSE_PREPROCESSING = Preprocessing(mean=(0.45, 0.45, 0.45), std=(0.25, 0.25, 0.25))


@dataclass(frozen=True, kw_only=True, slots=True)
class AimConfig:
    """The shape of an AIM encoder."""

    kind: Literal["aim"] = "aim"
    num_frames: int
    image_size: int
    """Side of the square frames in pixels."""
    patch_size: int
    width: int
    depth: int
    num_heads: int
    adapter_ratio: float = 0.25
    """Width of an adapter's middle layer over the model's width."""
    adapter_scale: float = 0.5
    """Weight of the adapter beside the MLP."""
    drop_path: float = 0.2
    """Stochastic depth of the last block; it rises linearly from 0 at the first."""
    num_time_adapters: Literal[1, 2] = field(default=1, metadata=_OMIT_DEFAULT)
    """Adapters of the attention over frames; 2 = one more (`T_Adapter_in`, with its own skip) before it."""
    temporal_pooling: Literal["mean", "attention"] = field(default="mean", metadata=_OMIT_DEFAULT)
    """How frame vectors become a clip vector: `mean` is the paper's; `attention` sees the order of frames, and starts as the mean."""
    pixel_mean: tuple[float, float, float] = CLIP_MEAN
    pixel_std: tuple[float, float, float] = CLIP_STD

    def __post_init__(self) -> None:
        checked = Preprocessing(mean=self.pixel_mean, std=self.pixel_std)
        object.__setattr__(self, "pixel_mean", checked.mean)
        object.__setattr__(self, "pixel_std", checked.std)
        if min(self.num_frames, self.patch_size, self.width, self.depth, self.num_heads) < 1:
            raise ValueError(
                f"num_frames {self.num_frames}, patch_size {self.patch_size}, width {self.width}, depth {self.depth}, "
                f"num_heads {self.num_heads}: each must be at least 1"
            )
        if self.image_size < self.patch_size or self.image_size % self.patch_size:
            raise ValueError(
                f"image_size is {self.image_size}; it must be a multiple of patch_size ({self.patch_size})"
            )
        if self.width % self.num_heads:
            raise ValueError(
                f"width is {self.width}; it must be a multiple of num_heads ({self.num_heads})"
            )
        if int(self.width * self.adapter_ratio) < 1:
            raise ValueError(
                f"adapter_ratio is {self.adapter_ratio}; an adapter needs at least one middle unit"
            )
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path is {self.drop_path}; it must lie in [0, 1)")
        if self.num_time_adapters not in (1, 2) or self.temporal_pooling not in _POOLINGS:
            raise ValueError(
                f"num_time_adapters is {self.num_time_adapters} (1 or 2), "
                f"temporal_pooling is {self.temporal_pooling!r} (one of {_POOLINGS})"
            )

    @property
    def embedding_dim(self) -> int:
        """Length of the clip vector (D)."""
        return self.width

    @property
    def num_tokens(self) -> int:
        """Patches of a frame and the class token (L)."""
        return (self.image_size // self.patch_size) ** 2 + 1


@dataclass(frozen=True, kw_only=True, slots=True)
class PoseImageConfig:
    """The shape of the image part."""

    image_size: int = 64
    """Side of the square frames in pixels."""
    conv_widths: tuple[int, ...] = (24, 48, 96, 160)
    """Channels after each halving of the frame's sides."""
    feature_dim: int = 192
    pose_dim: int = 50
    """Numbers per frame that pretraining regresses; they join the features."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "conv_widths", tuple(self.conv_widths))
        if not self.conv_widths or min(self.conv_widths) < 1:
            raise ValueError(f"conv_widths is {self.conv_widths}; every width must be at least 1")
        factor = 2 ** len(self.conv_widths)
        if self.image_size < factor or self.image_size % factor:
            raise ValueError(
                f"image_size is {self.image_size}; {len(self.conv_widths)} halvings need a multiple of {factor}"
            )
        if self.feature_dim < 1 or self.pose_dim < 1:
            raise ValueError(
                f"feature_dim is {self.feature_dim} and pose_dim is {self.pose_dim}; both must be at least 1"
            )

    @property
    def vector_dim(self) -> int:
        """Length of a frame vector: features and pose."""
        return self.feature_dim + self.pose_dim


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameTemporalConfig:
    """A frame_temporal encoder."""

    kind: Literal["frame_temporal"] = "frame_temporal"
    num_frames: int = 24
    image: PoseImageConfig = field(default_factory=PoseImageConfig)
    embedding_dim: int = 128
    """Width of the transformer and of the clip vector (D)."""
    depth: int = 3
    num_heads: int = 4
    dropout: float = 0.1
    temporal: TemporalKind = "ordered"
    """`ordered` sees all frames in order; the other two are controls with the same weights: each frame by itself, averaged.
    `mean` trains on all T frames, `single` on one random frame of them."""

    def __post_init__(self) -> None:
        if min(self.num_frames, self.depth, self.num_heads) < 1:
            raise ValueError(
                f"num_frames {self.num_frames}, depth {self.depth}, num_heads {self.num_heads}: each must be at least 1"
            )
        if self.embedding_dim < 1 or self.embedding_dim % self.num_heads:
            raise ValueError(
                f"embedding_dim is {self.embedding_dim}; it must be a multiple of num_heads ({self.num_heads})"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must lie in [0, 1)")
        if self.temporal not in ("ordered", "single", "mean"):
            raise ValueError(
                f"temporal is {self.temporal!r}; choose one of 'ordered', 'single', 'mean'"
            )

    @property
    def image_size(self) -> int:
        """Side of the square frames."""
        return self.image.image_size

    @property
    def pixel_mean(self) -> tuple[float, float, float]:
        """The image part was pretrained with it."""
        return POSE_PREPROCESSING.mean

    @property
    def pixel_std(self) -> tuple[float, float, float]:
        """The image part was pretrained with it."""
        return POSE_PREPROCESSING.std


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenConfig:
    """A model of transformers as it is, without training: an image tower whose frame vectors are averaged, or a video model."""

    kind: Literal["frozen"] = "frozen"
    num_frames: int
    image_size: int
    embedding_dim: int
    architecture: Mapping[str, Any]
    """The model's config in Hugging Face's form; `model_type` says which model it is."""
    pixel_mean: tuple[float, float, float] = CLIP_MEAN
    pixel_std: tuple[float, float, float] = CLIP_STD

    def __post_init__(self) -> None:
        checked = Preprocessing(mean=self.pixel_mean, std=self.pixel_std)
        object.__setattr__(self, "pixel_mean", checked.mean)
        object.__setattr__(self, "pixel_std", checked.std)
        if min(self.num_frames, self.image_size, self.embedding_dim) < 1:
            raise ValueError(
                f"num_frames {self.num_frames}, image_size {self.image_size}, embedding_dim {self.embedding_dim}: "
                "each must be at least 1"
            )


TrainableConfig = AimConfig | FrameTemporalConfig
VideoEncoderConfig = AimConfig | FrameTemporalConfig | FrozenConfig


def video_config_to_dict(config: VideoEncoderConfig) -> dict[str, Any]:
    """What the card keeps; JSON types only, `video_config_from_dict` is its inverse."""
    omitted = {
        field.name
        for field in fields(config)
        if field.metadata.get("omit_default") and getattr(config, field.name) == field.default
    }
    return _plain({name: value for name, value in asdict(config).items() if name not in omitted})


def video_config_from_dict(values: Any) -> VideoEncoderConfig:
    """The config that a card describes; ValueError for an unknown kind or key."""
    return read_value(VideoEncoderConfig, values, "encoder")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


AIM_PRESETS: dict[str, AimConfig] = {
    "aim_vit_b16": AimConfig(
        num_frames=12, image_size=224, patch_size=16, width=768, depth=12, num_heads=12
    ),
    "aim_vit_l14": AimConfig(
        num_frames=12, image_size=224, patch_size=14, width=1024, depth=24, num_heads=16
    ),
    "aim_small": AimConfig(
        num_frames=12,
        image_size=64,
        patch_size=8,
        width=192,
        depth=6,
        num_heads=3,
        drop_path=0.1,
    ),
    "aim_tiny": AimConfig(
        num_frames=16,
        image_size=64,
        patch_size=16,
        width=128,
        depth=4,
        num_heads=4,
        adapter_ratio=0.5,
        drop_path=0.0,
        num_time_adapters=2,
    ),
}
PRESETS: dict[str, TrainableConfig] = {
    **AIM_PRESETS,
    "frame_temporal_small": FrameTemporalConfig(),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class MomentConfig:
    """Shape of the head and what it found out about its archive; the entry `moments` of card.json."""

    glances_per_s: float = 8.0
    """Or nearest to it: a whole number of frames lies between two."""
    glance_size: int = 32
    """Width and height in pixels."""
    width: int = 48
    duration_s: tuple[float, float] = (0.0, 0.0)
    """Shortest and longest moment that is proposed."""
    min_score: float = 0.5
    """Moments with a lower score are left out; chosen on the validation videos."""

    def __post_init__(self) -> None:
        if not 1 <= self.glances_per_s <= 60:
            raise ValueError(f"glances_per_s is {self.glances_per_s}; it must be 1 to 60")
        if self.glance_size < 16 or self.glance_size % 16:
            raise ValueError(f"glance_size is {self.glance_size}; it must be a multiple of 16")
        if self.width < 1:
            raise ValueError(f"width is {self.width}; it must be at least 1")
