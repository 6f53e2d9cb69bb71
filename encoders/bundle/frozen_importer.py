"""Imports a published model of transformers as it is: a frozen video encoder and, of a CLIP-like model, its text tower.

Clips and texts of a CLIP-like model lie in one space: a query is the sum of its clip's vector and its text's, without training.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from encoders.bundle.card import CARD_NAME, BundleCard, read_card
from encoders.bundle.folder import save_bundle
from encoders.bundle.import_config import ImportConfig
from encoders.media.sampling import SamplingConfig
from encoders.query_encoder.config import FusionConfig
from encoders.query_encoder.fusion import build_fusion
from encoders.query_encoder.text_backbones import require_whole
from encoders.query_encoder.text_encoder import TextEncoder, no_progress_bar, open_text_encoder
from encoders.video_encoder.config import FrozenConfig
from encoders.video_encoder.frozen import (
    IMAGE_MODELS,
    VIDEO_MODELS,
    FrozenEncoder,
    part_that_embeds,
)
from encoders.video_encoder.pretrained.huggingface import read_crop_size, read_preprocessing

# Model type of an image-text model -> of its image tower.
_CLIP_LIKE = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}
_IMAGE_FRAMES = 12
_MAX_VIDEO_FRAMES = 16
# Of an AIM encoder, or of a stage 2 checkpoint.
_OTHER_OPTIONS = ("labels", "temporal_pooling", "num_heads", "adapter_scale", "video", "expect")
# Of a config: they change with the version of transformers, or name classes that are not there.
_VOLATILE = ("transformers_version", "_name_or_path", "architectures", "dtype", "id2label", "label2id")  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenImport:
    """What an import did."""

    described: str
    card: BundleCard
    is_unchanged: bool
    """Whether `out` held this very bundle already."""


def import_frozen(config: ImportConfig) -> FrozenImport:
    """Read, check, build, save. ValueError names what does not fit; then `out` is as it was."""
    given = [name for name in _OTHER_OPTIONS if getattr(config, name) is not None]
    if given:
        raise ValueError(f"{given[0]} is given with frozen, which takes a model as it is")
    encoder, is_clip_like = open_frozen(config.source, num_frames=config.num_frames)
    shape = encoder.config
    sampling = SamplingConfig(num_frames=shape.num_frames, frame_size=shape.image_size)
    sampling = replace(
        sampling, resize=config.resize or sampling.resize, color=config.color or sampling.color
    )
    text = _open_text(config.source, shape.embedding_dim) if is_clip_like else None
    fusion = None
    if text is not None:
        widths = {"video_dim": shape.embedding_dim, "text_dim": text.text_dim}
        fusion = build_fusion(FusionConfig(kind="sum", **widths)).eval()
    described = f"{shape.architecture['model_type']} {config.source}"
    info = {"stage": 0, "imported_from": described, "frozen": True}
    before = read_card(config.out) if (config.out / CARD_NAME).exists() else None
    if before is not None and not config.overwrite:
        same = before.video == shape and dict(before.training) == info
        if not same or before.sampling != sampling:
            raise ValueError(
                f"{config.out} holds another bundle ({before.bundle_id}); replace it with --overwrite, or choose another --out"
            )
        return FrozenImport(described=described, card=before, is_unchanged=True)
    card = save_bundle(
        config.out, video=encoder, sampling=sampling, text=text, fusion=fusion, training_info=info
    )
    return FrozenImport(described=described, card=card, is_unchanged=False)


def open_frozen(source: str, *, num_frames: int | None = None) -> tuple[FrozenEncoder, bool]:
    """A pretrained model by Hugging Face name or folder, and whether it has a text tower in the same space.

    `num_frames` None = 12 of an image tower; of a video model as many as it was trained on, but at most 16, so that a CPU can run it.
    ValueError for a model that is not known here, or whose files lack weights.
    """
    import transformers

    whole = _read_config(source)
    is_clip_like = whole.model_type in _CLIP_LIKE
    config = whole.vision_config if is_clip_like else whole
    kind = _CLIP_LIKE.get(whole.model_type, whole.model_type)
    names = IMAGE_MODELS | VIDEO_MODELS
    if kind not in names:
        raise ValueError(
            f"{source} is a {kind!r} model; choose one of {', '.join([*_CLIP_LIKE, *(n for n in names if n not in _CLIP_LIKE.values())])}"
        )
    with no_progress_bar():
        loaded: Any = getattr(transformers, names[kind]).from_pretrained(
            source, output_loading_info=True, weights_only=True, dtype=torch.float32
        )
    model, report = loaded
    require_whole(source, report, but=("predictor.",))  # V-JEPA 2's, which is left out
    preprocessing = read_preprocessing(source)
    shape = FrozenConfig(
        num_frames=num_frames or _num_frames(config),
        image_size=_image_size(source, config),
        embedding_dim=_embedding_dim(config),
        architecture=_architecture(config),
        pixel_mean=preprocessing.mean,
        pixel_std=preprocessing.std,
    )
    _check_frames(source, config, shape)
    encoder = FrozenEncoder(shape).eval()
    encoder.model.load_state_dict(part_that_embeds(model).state_dict())
    return encoder, is_clip_like


def _read_config(source: str) -> Any:
    """ValueError, in one line, where it is neither a folder here nor what the hub has."""
    import transformers

    try:
        return transformers.AutoConfig.from_pretrained(source)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"source is {source!r}; it must be the folder of a model of transformers, or its name on a hub that this machine reaches: {reason}"
        ) from error


def _image_size(source: str, config: Any) -> int:
    """DINOv2's config has the largest size that it was trained on (518); it is shown smaller frames (224), which its positions follow."""
    if config.model_type == "dinov2":
        return read_crop_size(source) or config.image_size
    return getattr(config, "crop_size", None) or config.image_size


def _num_frames(config: Any) -> int:
    """Of a model whose positions are learnt for one number of frames, that number."""
    if config.model_type == "vjepa2":
        return min(config.frames_per_clip, _MAX_VIDEO_FRAMES)
    return config.num_frames if config.model_type in VIDEO_MODELS else _IMAGE_FRAMES


def _check_frames(source: str, config: Any, shape: FrozenConfig) -> None:
    tubelet = getattr(config, "tubelet_size", 1)
    if shape.num_frames % tubelet:
        raise ValueError(
            f"num_frames is {shape.num_frames}; {source} takes a multiple of {tubelet}"
        )
    if config.model_type == "videomae" and shape.num_frames != config.num_frames:
        raise ValueError(
            f"num_frames is {shape.num_frames}; {source} takes exactly {config.num_frames}"
        )


def _embedding_dim(config: Any) -> int:
    return config.projection_dim if config.model_type == "clip_vision_model" else config.hidden_size


def _architecture(config: Any) -> Mapping[str, Any]:
    values = {name: v for name, v in config.to_dict().items() if name not in _VOLATILE}
    return json.loads(json.dumps(values))  # as a card will read it


def _open_text(source: str, width: int) -> TextEncoder:
    whole = _read_config(source)
    text = open_text_encoder(
        source, max_tokens=whole.text_config.max_position_embeddings, number_words=False
    )
    if text.text_dim != width:
        raise ValueError(
            f"{source}: text vectors have {text.text_dim} numbers and image vectors {width}; they must lie in one space"
        )
    return text
