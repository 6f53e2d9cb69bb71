"""The bundle card (card.json): configs, sampling, preprocessing, ids and file hashes."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from encoders.bundle.checks import BundleMismatchError, naming_file
from encoders.bundle.engine_records import EngineRecord
from encoders.files import atomic_file, from_dict, hash_file, parse_json
from encoders.media.sampling import SamplingConfig, sampling_to_dict
from encoders.query_encoder.config import (
    FusionConfig,
    TextConfig,
    fusion_config_to_dict,
    text_config_to_dict,
)
from encoders.video_encoder.config import (
    MomentConfig,
    Preprocessing,
    VideoEncoderConfig,
    video_config_to_dict,
)

if TYPE_CHECKING:
    import torch


TOKENIZER = "tokenizer.json"
_ID = re.compile("[0-9a-f]{16}")
CARD_NAME = "card.json"
CARD_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxReport:
    """How near ONNX Runtime came to torch when the bundle was exported."""

    min_cosine: float
    """Lowest cosine of any clip vector and, where there is a fusion, of any query vector with that of torch."""
    min_cosine_clips: float
    min_cosine_queries: float | None
    num_clips: int
    clips_from: str
    """Source of the clips: `synthetic`, the name of a clips.parquet, or what the caller names."""
    opset: int
    torch_version: str
    onnxruntime_version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CanaryRecord:
    """The canary clips that every worker is checked with; their vectors are in canaries.safetensors."""

    num_clips: int
    frames_sha256: str
    """sha256 of the synthetic frames, so that a change of their code is noticed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleCard:
    """The card of a bundle. Ids are 16 hex digits."""

    version: int = CARD_VERSION
    encoder_id: str
    """Hash of what changes a gallery vector: video weights and shape, pooling, sampling, preprocessing."""
    bundle_id: str
    """Hash of the whole bundle."""
    embedding_dim: int
    sampling: SamplingConfig
    preprocessing: Preprocessing
    video: VideoEncoderConfig
    text: TextConfig | None = None
    fusion: FusionConfig | None = None
    labels: tuple[str, ...] | None = None
    """Class names of the classification head, in the order of its outputs."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """How the encoder was trained, in JSON types only."""
    onnx: OnnxReport | None = None
    canaries: CanaryRecord | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    """File of the bundle -> sha256 of its bytes; engines name their own."""
    moments: MomentConfig | None = None
    """The head that finds moments in long videos; no part of the encoder id."""
    engines: tuple[EngineRecord, ...] = ()
    """TensorRT engines of the graphs. They are not part of the bundle id: an engine for another GPU leaves the encoder the same."""


def new_encoder_id(
    *,
    video: VideoEncoderConfig,
    sampling: SamplingConfig,
    preprocessing: Preprocessing,
    weights: "Mapping[str, torch.Tensor]",
) -> str:
    """Hash of what changes a gallery vector."""
    described = {
        "video": video_config_to_dict(video),
        "sampling": sampling_to_dict(sampling),
        "preprocessing": asdict(preprocessing),
        "weights": _hash_tensors(weights),
    }
    return _hash_json(described)


def with_bundle_id(card: BundleCard) -> BundleCard:
    """The card with the bundle id that belongs to everything else in it, engines left out."""
    values = card_to_dict(card)
    del values["bundle_id"]
    values.pop("engines", None)
    return replace(card, bundle_id=_hash_json(values))


def card_to_dict(card: BundleCard) -> dict[str, Any]:
    """JSON types only; `card_from_dict` is the inverse. A card without engines, or without a moment head, has no such key."""
    values = {
        "version": card.version,
        "encoder_id": card.encoder_id,
        "bundle_id": card.bundle_id,
        "embedding_dim": card.embedding_dim,
        "sampling": sampling_to_dict(card.sampling),
        "preprocessing": {name: list(value) for name, value in asdict(card.preprocessing).items()},
        "video": video_config_to_dict(card.video),
        "text": None if card.text is None else text_config_to_dict(card.text),
        "fusion": None if card.fusion is None else fusion_config_to_dict(card.fusion),
        "labels": None if card.labels is None else list(card.labels),
        "training": dict(card.training),
        "onnx": None if card.onnx is None else asdict(card.onnx),
        "canaries": None if card.canaries is None else asdict(card.canaries),
        "files": dict(sorted(card.files.items())),
    }
    if card.moments is not None:
        values["moments"] = asdict(card.moments) | {"duration_s": list(card.moments.duration_s)}
    if card.engines:
        values["engines"] = [asdict(engine) for engine in card.engines]
    return values


def card_from_dict(values: Mapping[str, Any]) -> BundleCard:
    """ValueError for keys that are unknown, missing or of the wrong shape."""
    card = from_dict(
        BundleCard, {"engines": [], "moments": None, **values}, "card", is_complete=True
    )
    names = [*card.files, *(name for engine in card.engines for name in engine.files)]
    nested = [name for name in names if Path(name).name != name]
    if nested:
        raise ValueError(f"files must lie in the bundle's own folder; the card names {nested[0]!r}")
    return card


def write_card(folder: Path, card: BundleCard) -> None:
    """Written whole or not at all."""
    with atomic_file(folder / CARD_NAME) as temporary:
        temporary.write_text(json.dumps(card_to_dict(card), indent=1) + "\n")


def read_card(folder: str | Path) -> BundleCard:
    """The card of a bundle; BundleMismatchError names what is wrong with it. Reads no other file."""
    path = Path(folder) / CARD_NAME
    if not path.is_file():
        raise BundleMismatchError(f"{folder} is not a bundle: {CARD_NAME} is missing")
    try:
        values = parse_json(path.read_bytes())
    except ValueError as error:
        raise BundleMismatchError(f"{path} is not JSON: {error}") from error
    version = values.get("version") if isinstance(values, dict) else None
    if version != CARD_VERSION:
        raise BundleMismatchError(
            f"{path} has version {version!r}; this code reads version {CARD_VERSION}"
        )
    with naming_file(path):
        card = card_from_dict(values)
        _check_plausible(card)
        bundle_id = with_bundle_id(card).bundle_id
    if bundle_id != card.bundle_id:
        raise BundleMismatchError(
            f"{path}: bundle_id is {card.bundle_id}, but the rest of the card hashes to {bundle_id}; "
            "the card was changed by hand"
        )
    return card


def _check_plausible(card: BundleCard) -> None:
    """ValueError for what no version of this code writes."""
    for name in ("encoder_id", "bundle_id"):
        if not _ID.fullmatch(getattr(card, name)):
            raise ValueError(f"{name} is {getattr(card, name)!r}; it must be 16 hex digits")
    seen = card.video.num_frames, card.video.image_size
    given = card.sampling.num_frames, card.sampling.frame_size
    if seen != given:
        raise ValueError(
            f"encoder_id {card.encoder_id} is of clips of {seen[0]} frames of {seen[1]} pixels, and sampling gives {given[0]} of {given[1]}"
        )


def check_file(folder: Path, card: BundleCard, name: str) -> Path:
    """The path of a bundle's file whose bytes are those that the card names."""
    path = folder / name
    if name not in card.files:
        raise BundleMismatchError(
            f"{folder}: the card names no {name}; it names {sorted(card.files)}"
        )
    if not path.is_file():
        raise BundleMismatchError(f"{folder}: {name} is missing")
    sha256 = hash_file(path)
    if sha256 != card.files[name]:
        raise BundleMismatchError(
            f"{path} has sha256 {sha256}, but the card says {card.files[name]}; the file was changed or is truncated"
        )
    return path


def hash_frames(frames: np.ndarray) -> str:
    """sha256 of the pixels and their shape."""
    return hashlib.sha256(repr(frames.shape).encode() + frames.tobytes()).hexdigest()


def _hash_json(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _hash_tensors(weights: "Mapping[str, torch.Tensor]") -> str:
    import torch

    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
