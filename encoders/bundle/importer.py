"""How do published weights become a bundle? CLIP, AIM and TF-CoVR weights in, an AIM bundle out, whole or not at all."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch

from encoders.bundle.card import CARD_NAME, BundleCard, check_file, new_encoder_id, read_card
from encoders.bundle.folder import HEAD_WEIGHTS, VIDEO_WEIGHTS, save_bundle
from encoders.files import hash_file
from encoders.media.sampling import Resize, SamplingConfig
from encoders.video_encoder.aim import AIM_PRESETS, AimEncoder
from encoders.video_encoder.config import AimConfig
from encoders.video_encoder.pretrained.aim_weights import (
    LoadReport,
    SourceWeights,
    config_of,
    load_weights,
    summarize_names,
)
from encoders.video_encoder.pretrained.checkpoint import read_checkpoint
from encoders.video_encoder.pretrained.head import read_head
from encoders.video_encoder.pretrained.huggingface import read_clip_model

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportConfig:
    """Build an AIM bundle from published weights.

    CLIP by name: tfcovr import-weights --source openai/clip-vit-base-patch16 --out runs/clip_b16

    A TF-CoVR checkpoint: tfcovr import-weights --source aim_finegd.pth --out runs/stage1 --labels labels_306.json

    32 frames instead of 12: tfcovr import-weights --source runs/stage1 --out runs/stage1_32 --num-frames 32
    """

    source: str
    """One of: a Hugging Face name or folder of a CLIP vision model with QuickGELU (OpenAI's); a file with an OpenAI CLIP, AIM or
    TF-CoVR state dict (.safetensors, or written by torch.save); the folder of an AIM bundle."""
    out: Path
    """Folder of the new bundle. One that holds the same bundle already is left as it is."""
    labels: Path | None = None
    """Class names of the classification head: a JSON object {name: class index}, or text with one name per line. Without it the
    head of a checkpoint is left out."""
    num_frames: int | None = None
    """Frames per clip; the temporal embedding is interpolated. None = as in the source, 12 for CLIP."""
    temporal_pooling: Literal["mean", "attention"] | None = None
    """`mean` is the paper's, `attention` sees the order of frames. None = as in the source, the mean for CLIP."""
    resize: Resize | None = None
    """How frames are made to fit. `pillow_bicubic` is CLIP's and the paper's; `swscale_area` decodes large frames up to 1.7 times as
    fast, for other vectors. None = as in a source bundle, otherwise pillow_bicubic."""
    num_heads: int | None = None
    """Attention heads, which a state dict does not tell. None = width / 64, as in all CLIP models."""
    expect: str | None = None
    """Refuse weights of another shape than this preset's (aim_vit_b16, aim_vit_l14)."""
    seed: int = 0
    """Decides what is random in new tensors."""
    overwrite: bool = False
    """Replace another bundle that stands in `out`. Anything else than a bundle is never replaced."""

    def __post_init__(self) -> None:
        if self.expect is not None and self.expect not in AIM_PRESETS:
            raise ValueError(f"expect is {self.expect!r}; choose one of {sorted(AIM_PRESETS)}")
        for name in ("num_frames", "num_heads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportResult:
    """What an import did."""

    source: SourceWeights
    config: AimConfig
    report: LoadReport
    card: BundleCard
    head_note: str
    is_unchanged: bool
    """`out` held this very bundle already."""


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
        raise FileNotFoundError(
            f"there is no file or folder {source}, and it is no Hugging Face name"
        )
    return read_clip_model(str(source))


def import_weights(config: ImportConfig) -> ImportResult:
    """Read, check, build, save. ValueError names what does not fit; then `out` is as it was."""
    _check_out(config)
    source = open_weights(config.source)
    shape = config_of(
        source,
        num_frames=config.num_frames,
        num_heads=config.num_heads,
        temporal_pooling=config.temporal_pooling,
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
    sampling = SamplingConfig(
        num_frames=shape.num_frames, frame_size=shape.image_size, resize=_resize(config)
    )
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
        head = safetensors.torch.load_file(check_file(folder, card, HEAD_WEIGHTS))
    return SourceWeights(
        described=f"bundle {folder}",
        kind="aim",
        tensors=safetensors.torch.load_file(check_file(folder, card, VIDEO_WEIGHTS)),
        head=head,
        labels=card.labels,
        ignored=("text encoder and fusion",) if card.fusion is not None else (),
        config=card.video,
    )


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


def _resize(config: ImportConfig) -> Resize:
    source = Path(config.source)
    if config.resize is not None or not (source / CARD_NAME).exists():
        return config.resize or "pillow_bicubic"
    return read_card(source).sampling.resize


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
        raise ValueError(f"{source.described} is no {config.expect}: {', '.join(differ)}")
