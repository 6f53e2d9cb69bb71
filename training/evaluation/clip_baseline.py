"""Zero-shot CLIP baseline: mean of frame embeddings of any Hugging Face image-text model.

N clips or texts, T frames, H W pixels, C channels, D width of the shared space.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.stages.base import error_of
from encoders.video_encoder.base import normalize_pixels
from encoders.video_encoder.config import Preprocessing

_FRAMES_AT_ONCE = 64
_TEXTS_AT_ONCE = 64
# Trained on texts padded to full length; shorter padding gives wrong embeddings.
_FULL_LENGTH = ("siglip", "siglip2")


class ClipLike:
    """Unit vectors of clips and texts in one space, from unmodified pretrained weights."""

    def __init__(self, name_or_folder: str, *, device: str = "cpu") -> None:
        from transformers import AutoModel, AutoTokenizer

        from encoders.query_encoder.text_backbones import require_whole

        loaded: Any = AutoModel.from_pretrained(
            name_or_folder, dtype=torch.float32, output_loading_info=True
        )
        model, report = loaded
        for needed in ("get_image_features", "get_text_features"):
            if not hasattr(model, needed):
                raise ValueError(
                    f"{name_or_folder}: {type(model).__name__} has no {needed}; choose a model with an image and "
                    "a text tower in one space, such as openai/clip-vit-base-patch16"
                )
        require_whole(name_or_folder, report)
        self._model = model.eval().to(device)
        self._device = device
        self._tokenizer = AutoTokenizer.from_pretrained(name_or_folder)
        self.image_size: int = model.config.vision_config.image_size
        self.preprocessing = _read_preprocessing(name_or_folder)

    @torch.inference_mode()
    def embed_clips(self, frames_NTHWC: np.ndarray) -> np.ndarray:
        """uint8 frames -> unit vectors [N, D]: the mean of the frames' unit vectors."""
        num_clips, num_frames = frames_NTHWC.shape[:2]
        frames = torch.from_numpy(frames_NTHWC).flatten(0, 1)[:, None]
        parts: list[Tensor] = []
        for part in frames.split(_FRAMES_AT_ONCE):
            pixels_BCHW = normalize_pixels(part, self.preprocessing, torch.float32)
            output = self._model.get_image_features(pixel_values=pixels_BCHW.to(self._device))
            parts.append(F.normalize(_features(output), dim=-1).cpu())
        mean_ND = torch.cat(parts).unflatten(0, (num_clips, num_frames)).mean(dim=1)
        return F.normalize(mean_ND, dim=-1).numpy()

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors [N, D]."""
        is_padded = self._model.config.model_type in _FULL_LENGTH
        parts: list[Tensor] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            tokens = self._tokenizer(
                list(texts[start : start + _TEXTS_AT_ONCE]),
                padding="max_length" if is_padded else True,
                truncation=True,
                max_length=self._model.config.text_config.max_position_embeddings,
                return_tensors="pt",
            )
            output = self._model.get_text_features(**tokens.to(self._device))
            parts.append(F.normalize(_features(output), dim=-1).cpu())
        return torch.cat(parts).numpy()


class FrameAverageStage:
    """A dataflow stage: frames to unit vectors (float32 bytes, empty for a row with an error); weights load once per worker."""

    def __init__(self, *, model: str, device: str) -> None:
        self._model = ClipLike(model, device=device)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        frames_NTHWC = batch.pop("frames")
        vectors = np.full(len(frames_NTHWC), b"", object)
        for row, error in enumerate(batch["error"]):
            if error_of(error) is None:
                vectors[row] = self._model.embed_clips(frames_NTHWC[[row]])[0].tobytes()
        batch["vector"] = vectors
        return batch


def image_size_of(name_or_folder: str) -> int:
    """Input frame size of the model, from its config alone."""
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(name_or_folder)
    if not hasattr(config, "vision_config"):
        raise ValueError(f"{name_or_folder}: model type {config.model_type!r} has no vision tower")
    return config.vision_config.image_size


def _features(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.pooler_output


def _read_preprocessing(name_or_folder: str) -> Preprocessing:
    from transformers.utils.hub import cached_file

    for name in ("preprocessor_config.json", "processor_config.json"):
        path = cached_file(
            name_or_folder,
            name,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if path is not None:
            values = json.loads(Path(path).read_text())
            values = values.get("image_processor", values)
            if {"image_mean", "image_std"} <= values.keys():
                return Preprocessing(mean=values["image_mean"], std=values["image_std"])
    raise ValueError(
        f"{name_or_folder}: no preprocessor_config.json with image_mean and image_std; without them the pixels are a guess"
    )
