"""Imports published weights (CLIP, AIM, TF-CoVR) as an AIM bundle, whole or not at all."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from encoders.bundle.card import CARD_NAME, BundleCard, check_file, new_encoder_id, read_card
from encoders.bundle.checks import naming_file
from encoders.bundle.folder import HEAD_WEIGHTS, VIDEO_WEIGHTS, save_bundle
from encoders.bundle.frozen_importer import FrozenImport, import_frozen
from encoders.bundle.import_config import ImportConfig
from encoders.bundle.stage2_importer import Stage2Import, import_stage2
from encoders.files import hash_file
from encoders.media.sampling import SamplingConfig
from encoders.query_encoder.released_weights import is_stage2
from encoders.video_encoder.aim import AimEncoder
from encoders.video_encoder.config import AIM_PRESETS, AimConfig
from encoders.video_encoder.pretrained.aim_weights import (
    LoadReport,
    SourceWeights,
    config_of,
    load_weights,
    summarize_names,
)
from encoders.video_encoder.pretrained.checkpoint import read_checkpoint, read_tensors
from encoders.video_encoder.pretrained.head import read_head
from encoders.video_encoder.pretrained.huggingface import read_clip_model

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportResult:
    """What an import did."""

    source: SourceWeights
    config: AimConfig
    report: LoadReport
    card: BundleCard
    head_note: str
    is_unchanged: bool
    """Whether `out` held this very bundle already."""


def open_weights(source: str | Path) -> SourceWeights:
    """Weights of a file, of a bundle, or of a CLIP vision model by folder or Hugging Face name."""
    path = Path(source)
    if path.is_file():
        return read_checkpoint(path)
    if path.is_dir():
        if (path / CARD_NAME).exists():
            return _read_bundle(path)
        if (path / "config.json").exists():
            return read_clip_model(path)
        raise ValueError(
            f"{path} is a folder with neither {CARD_NAME} (a bundle) nor config.json (a Hugging Face model)"
        )
    looks_like_path = path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
    if looks_like_path or not _HUB_NAME.fullmatch(str(source)):
        raise FileNotFoundError(f"{source} is neither a file, a folder nor a Hugging Face name")
    return read_clip_model(str(source))


def import_weights(config: ImportConfig) -> ImportResult | Stage2Import | FrozenImport:
    """Read, check, build, save. ValueError names what does not fit; then `out` is as it was."""
    _check_out(config)
    if config.frozen:
        return import_frozen(config)
    if Path(config.source).is_file():
        tensors = read_tensors(Path(config.source))
        if is_stage2(tensors):
            return import_stage2(config, tensors)
    if config.video is not None:
        raise ValueError(f"video is {config.video}; it is for stage 2 checkpoints of TF-CoVR alone")
    source = open_weights(config.source)
    shape = config_of(
        source,
        num_frames=config.num_frames,
        num_heads=config.num_heads,
        temporal_pooling=config.temporal_pooling,
        adapter_scale=config.adapter_scale,
    )
    _check_expected(config, source, shape)
    torch.manual_seed(config.seed)
    encoder = AimEncoder(shape).eval()
    report = load_weights(encoder, source)
    head, labels, head_note = read_head(source, labels_path=config.labels, width=shape.width)
    info = {
        "stage": 0,
        "imported_from": source.described,
        "source_id": _identify(config.source),
        "new": summarize_names(report.new),
        "resized": list(report.resized),
        "head": head_note,
        "seed": config.seed,
    }
    sampling = _sampling(config, shape)
    standing = _standing_bundle(config, encoder, sampling, labels, info)
    card = standing or save_bundle(
        config.out,
        video=encoder,
        sampling=sampling,
        head=head,
        labels=labels,
        training_info=info,
    )
    return ImportResult(
        source=source,
        config=shape,
        report=report,
        card=card,
        head_note=head_note,
        is_unchanged=standing is not None,
    )


def _read_bundle(folder: Path) -> SourceWeights:
    card = read_card(folder)
    if not isinstance(card.video, AimConfig):
        raise ValueError(
            f"{folder} holds a {card.video.kind!r} encoder; only 'aim' can be imported"
        )
    head = None
    if HEAD_WEIGHTS in card.files:
        head = _read_tensors(folder, card, HEAD_WEIGHTS)
    return SourceWeights(
        described=f"bundle {folder}",
        kind="aim",
        tensors=_read_tensors(folder, card, VIDEO_WEIGHTS),
        head=head,
        labels=card.labels,
        ignored=("text encoder and fusion",) if card.fusion is not None else (),
        config=card.video,
    )


def _read_tensors(folder: Path, card: BundleCard, name: str) -> dict[str, Tensor]:
    path = check_file(folder, card, name)
    with naming_file(path):
        return safetensors.torch.load_file(path)


def _check_out(config: ImportConfig) -> None:
    """Before anything is read: what stands in `out` may only be a bundle or an empty folder."""
    out = config.out
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; --out must be a new folder")
    if out.is_dir() and any(out.iterdir()) and not (out / CARD_NAME).exists():
        raise ValueError(
            f"{out} is not empty and holds no bundle; nothing is replaced there, choose another --out"
        )


def _standing_bundle(
    config: ImportConfig,
    encoder: AimEncoder,
    sampling: SamplingConfig,
    labels: tuple[str, ...] | None,
    info: dict[str, Any],
) -> BundleCard | None:
    """The card in `out` if it is this very import; ValueError if it is another bundle that may not be replaced."""
    if config.overwrite or not (config.out / CARD_NAME).exists():
        return None
    card = read_card(config.out)
    encoder_id = new_encoder_id(
        video=encoder.config,
        sampling=sampling,
        preprocessing=encoder.preprocessing,
        weights=encoder.state_dict(),
    )
    if (card.encoder_id, card.labels, dict(card.training)) != (encoder_id, labels, info):
        raise ValueError(
            f"{config.out} holds another bundle ({card.bundle_id}); replace it with --overwrite, or choose another --out"
        )
    for name in card.files:
        check_file(config.out, card, name)
    return card


def _sampling(config: ImportConfig, shape: AimConfig) -> SamplingConfig:
    """Resize and colours as asked for, otherwise as in a source bundle."""
    source = Path(config.source)
    sampling = SamplingConfig(num_frames=shape.num_frames, frame_size=shape.image_size)
    standing = read_card(source).sampling if (source / CARD_NAME).exists() else sampling
    return replace(
        sampling,
        resize=config.resize or standing.resize,
        color=config.color or standing.color,
    )


def _identify(source: str) -> str | None:
    """Of a file its sha256, of a bundle its id; of a Hugging Face model nothing, its weights make the encoder id."""
    path = Path(source)
    if path.is_file():
        return hash_file(path)
    return read_card(path).bundle_id if (path / CARD_NAME).exists() else None


def _check_expected(config: ImportConfig, source: SourceWeights, shape: AimConfig) -> None:
    if config.expect is None:
        return
    names = ("image_size", "patch_size", "width", "depth", "num_heads")
    preset = AIM_PRESETS[config.expect]
    differ = [
        f"{name} is {getattr(shape, name)}, not {getattr(preset, name)}"
        for name in names
        if getattr(shape, name) != getattr(preset, name)
    ]
    if differ:
        raise ValueError(f"{source.described} is not {config.expect}: {', '.join(differ)}")
