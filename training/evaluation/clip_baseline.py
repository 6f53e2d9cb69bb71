"""Zero-shot baseline: mean of frame embeddings of any Hugging Face image-text model, CLIP-like or BLIP-2.

N clips or texts, T frames, H W pixels, C channels, D width of the shared space.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.stages.base import error_of
from encoders.video_encoder.base import normalize_pixels
from encoders.video_encoder.pretrained.huggingface import read_preprocessing

_FRAMES_AT_ONCE = 64
_TEXTS_AT_ONCE = 64
# Trained on texts padded to full length; shorter padding gives wrong embeddings.
_FULL_LENGTH = ("siglip", "siglip2")
_BLIP2 = "blip-2"


class ClipLike:
    """Unit vectors of clips and texts in one space, from unmodified pretrained weights."""

    def __init__(self, name_or_folder: str, *, device: str = "cpu") -> None:
        from transformers import AutoConfig, AutoTokenizer

        from encoders.query_encoder.text_backbones import require_whole

        kind = AutoConfig.from_pretrained(name_or_folder).model_type
        model, report = (_open_blip2 if kind == _BLIP2 else _open_clip_like)(name_or_folder)
        require_whole(name_or_folder, report)
        self._model = model.eval().to(device)
        self._features = _blip2_features if kind == _BLIP2 else _clip_features
        text_config = model.config.qformer_config if kind == _BLIP2 else model.config.text_config
        self._max_tokens: int = text_config.max_position_embeddings
        self._device = device
        self._tokenizer = AutoTokenizer.from_pretrained(name_or_folder)
        self.image_size: int = model.config.vision_config.image_size
        self.preprocessing = read_preprocessing(name_or_folder)

    @torch.inference_mode()
    def embed_clips(self, frames_NTHWC: np.ndarray) -> np.ndarray:
        """uint8 frames -> unit vectors [N, D]: the mean of the frames' unit vectors."""
        num_clips, num_frames = frames_NTHWC.shape[:2]
        frames = torch.from_numpy(frames_NTHWC).flatten(0, 1)[:, None]
        parts: list[Tensor] = []
        for part in frames.split(_FRAMES_AT_ONCE):
            pixels_BCHW = normalize_pixels(part, self.preprocessing, torch.float32)
            features = self._features(self._model, {"pixel_values": pixels_BCHW.to(self._device)})
            parts.append(F.normalize(features, dim=-1).cpu())
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
                max_length=self._max_tokens,
                return_tensors="pt",
            )
            features = self._features(self._model, dict(tokens.to(self._device)))
            parts.append(F.normalize(features, dim=-1).cpu())
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


def _open_clip_like(name_or_folder: str) -> tuple[Any, Any]:
    from transformers import AutoModel

    loaded: Any = AutoModel.from_pretrained(
        name_or_folder, dtype=torch.float32, output_loading_info=True
    )
    model, _ = loaded
    for needed in ("get_image_features", "get_text_features"):
        if not hasattr(model, needed):
            raise ValueError(
                f"{name_or_folder}: {type(model).__name__} has no {needed}; choose a model with an image and "
                "a text tower in one space, such as openai/clip-vit-base-patch16"
            )
    return loaded


def _open_blip2(name_or_folder: str) -> tuple[Any, Any]:
    """The model for image-text retrieval, whose image queries and texts lie in one space."""
    from transformers import Blip2ForImageTextRetrieval

    loaded: Any = Blip2ForImageTextRetrieval.from_pretrained(
        name_or_folder, dtype=torch.float32, output_loading_info=True
    )
    model, _ = loaded
    if not model.config.qformer_config.use_qformer_text_input:
        raise ValueError(
            f"{name_or_folder}: its Q-Former reads no text; choose a BLIP-2 for image-text retrieval, such as "
            "Salesforce/blip2-itm-vit-g"
        )
    return loaded


def _clip_features(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    is_image = "pixel_values" in inputs
    output = (model.get_image_features if is_image else model.get_text_features)(**inputs)
    return output if isinstance(output, Tensor) else output.pooler_output


def _blip2_features(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """An image is the mean of its queries' unit vectors, as TF-CoVR's BLIP-2 embeddings are; a text is its class token."""
    if "pixel_values" not in inputs:
        states_NLD = model.qformer(
            query_embeds=model.embeddings(input_ids=inputs["input_ids"]),
            query_length=0,
            attention_mask=inputs["attention_mask"],
        ).last_hidden_state
        return model.text_projection(states_NLD[:, 0])
    image_NLD = model.vision_model(pixel_values=inputs["pixel_values"]).last_hidden_state
    states_NQD = model.qformer(
        query_embeds=model.query_tokens.expand(len(image_NLD), -1, -1),
        encoder_hidden_states=image_NLD,
        encoder_attention_mask=torch.ones(
            image_NLD.shape[:2], dtype=torch.long, device=image_NLD.device
        ),
    ).last_hidden_state
    return F.normalize(model.vision_projection(states_NQD), dim=-1).mean(dim=1)
