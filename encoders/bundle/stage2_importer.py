"""Imports a TF-CoVR stage 2 checkpoint: the bundle of its video encoder with the checkpoint's text encoder and fusion."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from encoders.bundle.card import CARD_NAME, BundleCard, check_file, read_card
from encoders.bundle.folder import load_bundle, save_bundle
from encoders.bundle.import_config import ImportConfig
from encoders.files import hash_file
from encoders.query_encoder.released_weights import build_released

# Of an AIM encoder alone.
_VIDEO_OPTIONS = ("labels", "num_frames", "temporal_pooling", "resize", "color", "num_heads", "adapter_scale")  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage2Import:
    """What an import of a stage 2 checkpoint did."""

    described: str
    card: BundleCard
    is_unchanged: bool
    """`out` held this very bundle already."""


def import_stage2(config: ImportConfig, tensors: Mapping[str, Tensor]) -> Stage2Import:
    """Check, build, save. ValueError names what does not fit; then `out` is as it was."""
    if config.video is None:
        raise ValueError(
            f"{config.source} is a stage 2 checkpoint, which holds no video encoder; "
            "name the bundle of the encoder that made its clip vectors with --video"
        )
    given = [name for name in (*_VIDEO_OPTIONS, "expect") if getattr(config, name) is not None]
    if given:
        raise ValueError(f"{given[0]} is given; a stage 2 checkpoint takes it from {config.video}")
    described = f"TF-CoVR stage 2 checkpoint {config.source}"
    info = {
        "stage": 2,
        "imported_from": described,
        "source_id": hash_file(Path(config.source)),
        "text": config.text,
    }
    init = load_bundle(config.video)
    info["stage1"] = dict(init.card.training)
    if not config.overwrite and (config.out / CARD_NAME).exists():
        return _standing(config.out, init.card.encoder_id, info, described)
    text, fusion = build_released(tensors, text=config.text, described=described)
    card = save_bundle(
        config.out,
        video=init.video,
        sampling=init.card.sampling,
        text=text,
        fusion=fusion,
        head=init.head,
        labels=init.card.labels,
        training_info=info,
    )
    return Stage2Import(described=described, card=card, is_unchanged=False)


def _standing(out: Path, encoder_id: str, info: dict[str, object], described: str) -> Stage2Import:
    """The bundle in `out` if it is this very import; ValueError if it may not be replaced."""
    card = read_card(out)
    if (card.encoder_id, dict(card.training)) != (encoder_id, info):
        raise ValueError(
            f"{out} holds another bundle ({card.bundle_id}); replace it with --overwrite, or choose another --out"
        )
    for name in card.files:
        check_file(out, card, name)
    return Stage2Import(described=described, card=card, is_unchanged=True)
