"""Frozen encoders: image towers and video models of transformers as they were published.

A clip of an image tower is the mean of its frames' unit vectors, of a video model the mean of its last states.
N clips, T frames, C channels, H W pixels, L tokens, D clip vector.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from encoders.video_encoder.base import VideoEncoder, normalize_pixels
from encoders.video_encoder.config import FrozenConfig

# Model type of the tower's own config -> class of transformers. Image towers answer a vector per frame, video models states [N, L, D].
IMAGE_MODELS = {
    "clip_vision_model": "CLIPVisionModelWithProjection",
    "siglip_vision_model": "SiglipVisionModel",
    "dinov2": "Dinov2Model",
}
VIDEO_MODELS = {"vjepa2": "VJEPA2Model", "videomae": "VideoMAEModel"}


class FrozenEncoder(VideoEncoder):
    """A published model, in eval mode and without gradients."""

    def __init__(self, config: FrozenConfig) -> None:
        super().__init__(config)
        self.model = part_that_embeds(_build(config.architecture)).requires_grad_(False)

    def features(self, frames_NTHWC: Tensor) -> Tensor:
        """uint8 frames -> clip vectors [N, D], not normalised."""
        self.check_frames(frames_NTHWC)
        dtype = next(self.model.parameters()).dtype
        pixels_BCHW = normalize_pixels(frames_NTHWC, self.preprocessing, dtype)
        num_frames, kind = frames_NTHWC.shape[1], self.config.architecture["model_type"]
        if kind in VIDEO_MODELS:
            name = "pixel_values_videos" if kind == "vjepa2" else "pixel_values"
            pixels_NTCHW = pixels_BCHW.unflatten(0, (-1, num_frames))
            states_NLD = self.model(**{name: pixels_NTCHW}).last_hidden_state
            return states_NLD.mean(dim=1)
        output: Any = self.model(pixel_values=pixels_BCHW)
        vectors_BD = output.pooler_output if "image_embeds" not in output else output.image_embeds
        return F.normalize(vectors_BD, dim=-1).unflatten(0, (-1, num_frames)).mean(dim=1)

    def freeze_pretrained(self) -> None:
        """Nothing of it trains."""
        self.model.requires_grad_(False)


def part_that_embeds(model: Any) -> nn.Module:
    """Without V-JEPA 2's predictor, which only its pretraining needs."""
    return model.encoder if model.config.model_type == "vjepa2" else model


def _build(architecture: Mapping[str, Any]) -> nn.Module:
    """The model with random weights."""
    import transformers

    values = dict(architecture)
    kind = values.pop("model_type", None)
    names = IMAGE_MODELS | VIDEO_MODELS
    if kind not in names:
        raise ValueError(f"model_type is {kind!r}; it must be one of {', '.join(names)}")
    return getattr(transformers, names[kind])(transformers.AutoConfig.for_model(kind, **values))
