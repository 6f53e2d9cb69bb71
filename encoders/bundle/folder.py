"""Saves and loads a bundle: safetensors, a tokenizer and a card; loading refuses whatever the card does not describe.

N clips or queries, D clip vector, L tokens.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from encoders.bundle.calibration import CALIBRATION_FILE, Calibration, calibration_bytes
from encoders.bundle.card import (
    TOKENIZER,
    BundleCard,
    check_file,
    new_encoder_id,
    read_card,
    with_bundle_id,
    write_card,
)
from encoders.bundle.checks import BundleMismatchError, naming_file
from encoders.files import hash_file, parse_json
from encoders.media.sampling import SamplingConfig
from encoders.query_encoder.config import TextConfig
from encoders.query_encoder.fusion import Fusion, build_fusion
from encoders.query_encoder.text_encoder import (
    TextEncoder,
    build_text_encoder,
    tokenizer_from_json,
)
from encoders.video_encoder.base import VideoEncoder
from encoders.video_encoder.registry import build_video_encoder

VIDEO_WEIGHTS = "video.safetensors"
TEXT_WEIGHTS = "text.safetensors"
TEXT_ARCHITECTURE = "text_config.json"
FUSION_WEIGHTS = "fusion.safetensors"
HEAD_WEIGHTS = "head.safetensors"
_Module = TypeVar("_Module", bound=nn.Module)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A loaded bundle, all parts in eval mode on one device."""

    folder: Path
    card: BundleCard
    video: VideoEncoder
    text: TextEncoder | None
    fusion: Fusion | None
    head: nn.Linear | None
    """Reads `video.features(frames)`, not the unit vectors; outputs are in the order of `card.labels`."""

    def encode_queries(self, clip_vectors_ND: Tensor, edit_texts: Sequence[str]) -> Tensor:
        """Clip vectors, unit or as long as the fusion reads them, and edit texts -> unit query vectors [N, D]."""
        if self.text is None or self.fusion is None:
            raise ValueError(
                f"bundle {self.card.bundle_id} has no text encoder and fusion; train stage 2 to ask composed queries"
            )
        return self.fusion(clip_vectors_ND, self.text.encode(edit_texts))


def save_bundle(  # noqa: PLR0913  # a bundle has this many parts, each of them optional
    folder: str | Path,
    *,
    video: VideoEncoder,
    sampling: SamplingConfig | None = None,
    text: TextEncoder | None = None,
    fusion: Fusion | None = None,
    head: nn.Linear | None = None,
    labels: Sequence[str] | None = None,
    calibration: Calibration | None = None,
    training_info: Mapping[str, Any] | None = None,
) -> BundleCard:
    """Write a bundle as a whole: into a folder beside it, then renamed. An older bundle of that name is replaced.

    `sampling` None = the frames that the encoder's config asks for.
    """
    folder = Path(folder)
    config = video.config
    sampling = sampling or SamplingConfig(
        num_frames=config.num_frames, frame_size=config.image_size
    )
    _check_sampling(video, sampling)
    _check_fusion(video, text, fusion)
    _check_head(video, head, labels)
    weights = _plain_weights(video)
    card = BundleCard(
        encoder_id=new_encoder_id(
            video=config, sampling=sampling, preprocessing=video.preprocessing, weights=weights
        ),
        bundle_id="",
        embedding_dim=config.embedding_dim,
        sampling=sampling,
        preprocessing=video.preprocessing,
        video=config,
        text=None if text is None else text.config,
        fusion=None if fusion is None else fusion.config,
        labels=None if labels is None else tuple(labels),
        training=json.loads(json.dumps(dict(training_info or {}))),
    )
    temporary = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}.tmp")
    temporary.mkdir(parents=True)
    try:
        _write_weights(weights, temporary / VIDEO_WEIGHTS)
        if text is not None:
            _write_weights(_plain_weights(text), temporary / TEXT_WEIGHTS)
            (temporary / TEXT_ARCHITECTURE).write_text(json.dumps(text.architecture(), indent=1))
            (temporary / TOKENIZER).write_text(text.tokenizer.to_json())
        for name, module in ((FUSION_WEIGHTS, fusion), (HEAD_WEIGHTS, head)):
            if module is not None:
                _write_weights(_plain_weights(module), temporary / name)
        if calibration is not None:
            (temporary / CALIBRATION_FILE).write_bytes(calibration_bytes(calibration))
        files = {path.name: hash_file(path) for path in sorted(temporary.iterdir())}
        card = with_bundle_id(replace(card, files=files))
        write_card(temporary, card)
        _put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return card


def load_bundle(folder: str | Path, *, device: str | torch.device = "cpu") -> Bundle:
    """All parts of a bundle; BundleMismatchError names what does not match its card."""
    folder = Path(folder)
    card = read_card(folder)
    for name in card.files:
        check_file(folder, card, name)
    video, weights = load_module(
        lambda: build_video_encoder(card.video), folder, card, VIDEO_WEIGHTS, asdict(card.video)
    )
    _check_encoder(card, video, folder, weights)
    text = fusion = head = None
    if card.text is not None:
        text = _load_text_encoder(folder, card, card.text)
    if card.fusion is not None:
        config = card.fusion
        fusion, _ = load_module(
            lambda: build_fusion(config), folder, card, FUSION_WEIGHTS, asdict(config)
        )
    if card.labels is not None and HEAD_WEIGHTS in card.files:
        widths = (card.embedding_dim, len(card.labels))
        head, _ = load_module(lambda: nn.Linear(*widths), folder, card, HEAD_WEIGHTS, {})
    for module in (video, text, fusion, head):
        if module is not None:
            module.to(device).eval()
    return Bundle(folder=folder, card=card, video=video, text=text, fusion=fusion, head=head)


def _check_sampling(video: VideoEncoder, sampling: SamplingConfig) -> None:
    config = video.config
    if (sampling.num_frames, sampling.frame_size) != (config.num_frames, config.image_size):
        raise ValueError(
            f"sampling gives {sampling.num_frames} frames of {sampling.frame_size} pixels; "
            f"the encoder takes {config.num_frames} of {config.image_size}"
        )


def _check_fusion(video: VideoEncoder, text: TextEncoder | None, fusion: Fusion | None) -> None:
    if (text is None) != (fusion is None):
        raise ValueError("text encoder and fusion belong together: give both or neither")
    if text is not None and fusion is not None:
        encoder_dims = (video.config.embedding_dim, text.text_dim)
        fused_dims = (fusion.config.video_dim, fusion.config.text_dim)
        if encoder_dims != fused_dims:
            raise ValueError(
                f"the fusion takes (video_dim, text_dim) = {fused_dims}; the encoders give {encoder_dims}"
            )


def _check_head(video: VideoEncoder, head: nn.Linear | None, labels: Sequence[str] | None) -> None:
    if head is None:
        return
    if labels is None:
        raise ValueError("a classification head needs its labels")
    wanted = (video.config.embedding_dim, len(labels))
    if (head.in_features, head.out_features) != wanted or head.bias is None:
        raise ValueError(f"the head must be a Linear{wanted} with bias; it is {head}")


def _plain_weights(module: nn.Module) -> dict[str, Tensor]:
    """Weights on the CPU, each tensor with its own memory (safetensors takes no shared ones)."""
    return {
        name: value.detach().cpu().contiguous().clone()
        for name, value in module.state_dict().items()
    }


def _write_weights(weights: dict[str, Tensor], path: Path) -> None:
    # save_file would make a file that only its owner may read, whatever the umask says.
    path.write_bytes(safetensors.torch.save(weights))


def _load_text_encoder(folder: Path, card: BundleCard, config: TextConfig) -> TextEncoder:
    tokenizer_path = check_file(folder, card, TOKENIZER)
    with naming_file(tokenizer_path):
        tokenizer_json = tokenizer_path.read_text()
        tokenizer_from_json(tokenizer_json, config)  # here for the name of the file
    path = check_file(folder, card, TEXT_ARCHITECTURE)
    with naming_file(path):
        architecture = parse_json(path.read_bytes())

    def build() -> TextEncoder:
        with naming_file(path):
            return build_text_encoder(config, architecture, tokenizer_json)

    return load_module(build, folder, card, TEXT_WEIGHTS, architecture)[0]


def load_module(
    build: Callable[[], _Module], folder: Path, card: BundleCard, name: str, config: object
) -> tuple[_Module, dict[str, Tensor]]:
    """A module with the weights of a file that the card names: the same names, shapes and types, all of them finite.

    It is built twice, first without memory: a card that was changed may describe any size, and nothing of a size that the file
    does not have is made.
    """
    path = check_file(folder, card, name)
    with naming_file(path):
        with safe_open(path, "pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        _check_depths(config, len(shapes))
        with torch.device("meta"):
            expected = {key: tuple(value.shape) for key, value in build().state_dict().items()}
        for key in sorted(shapes.keys() | expected.keys()):
            if shapes.get(key) != expected.get(key):
                raise ValueError(
                    f"{key} has shape {shapes.get(key)}; it must be {expected.get(key)}"
                )
        module, weights = build(), safetensors.torch.load_file(path)
        for key, value in module.state_dict().items():
            if weights[key].dtype != value.dtype:
                raise ValueError(f"{key} is {weights[key].dtype}; it must be {value.dtype}")
            if not bool(torch.isfinite(weights[key]).all()):
                raise ValueError(f"{key} has values that are not finite")
        module.load_state_dict(weights)
    return module, weights


def _check_depths(config: object, num_tensors: int) -> None:
    """ValueError where a config describes more layers than there are tensors."""
    for name, value in config.items() if isinstance(config, Mapping) else ():
        _check_depths(value, num_tensors)
        if ("depth" in name or "layers" in name) and isinstance(value, int) and value > num_tensors:
            raise ValueError(f"{name} is {value}; the file has {num_tensors} tensors")


def _check_encoder(
    card: BundleCard, video: VideoEncoder, folder: Path, weights: Mapping[str, Tensor]
) -> None:
    expected_id = new_encoder_id(
        video=card.video,
        sampling=card.sampling,
        preprocessing=card.preprocessing,
        weights=weights,
    )
    if expected_id != card.encoder_id:
        raise BundleMismatchError(
            f"{folder}: encoder_id is {card.encoder_id!r}, but its parts hash to {expected_id}"
        )
    if asdict(video.preprocessing) != asdict(card.preprocessing):
        raise BundleMismatchError(
            f"{folder}: the card's preprocessing is {card.preprocessing}, the encoder's is {video.preprocessing}"
        )
    if video.config.embedding_dim != card.embedding_dim:
        raise BundleMismatchError(
            f"{folder}: embedding_dim is {card.embedding_dim}, the encoder's is {video.config.embedding_dim}"
        )


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Rename; a bundle that stands there already is moved aside first and deleted last."""
    old = None
    if folder.exists():
        old = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}.old")
        folder.rename(old)
    temporary.rename(folder)
    if old is not None:
        shutil.rmtree(old)
