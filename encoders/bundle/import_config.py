"""Options of the import of published weights; without torch, so that `tfcovr import-weights --help` is quick."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from encoders.media.sampling import Color, Resize
from encoders.video_encoder.config import AIM_PRESETS


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportConfig:
    """Build a bundle from published weights: AIM, or with --frozen the model as it is."""

    source: str
    """One of: a Hugging Face name or folder of a CLIP vision model with QuickGELU (OpenAI's); a file with an OpenAI CLIP, AIM or
    TF-CoVR state dict (.safetensors, or written by torch.save), of TF-CoVR also stage 2; the folder of an AIM bundle."""
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
    """How frames are resized. `pillow_bicubic` is CLIP's and the paper's; `swscale_area` decodes large frames up to 1.7 times as
    fast, for other vectors. None = as in a source bundle, otherwise pillow_bicubic."""
    color: Color | None = None
    """Colour matrix. `bt601` for every file is what TF-CoVR's release decodes with; `file` takes the one that each file names, for
    other vectors of such files. None = as in a source bundle, otherwise bt601."""
    num_heads: int | None = None
    """Attention heads, which a state dict does not tell. None = width / 64, as in all CLIP models."""
    adapter_scale: float | None = None
    """Weight of AIM's adapter beside the MLP, which a state dict does not tell either. None = 0.5, as for Diving48, Kinetics and
    TF-CoVR; AIM's configs for Something-Something V2 have 1."""
    video: Path | None = None
    """Bundle of the encoder whose vectors a stage 2 checkpoint was trained on; such a checkpoint holds text encoder and fusion alone."""
    text: str = "Salesforce/blip2-itm-vit-g"
    """Name or folder of the BLIP-2 that gives a stage 2 checkpoint its tokenizer and the shape of its Q-Former."""
    expect: str | None = None
    """Refuse weights of another shape than this preset's (aim_vit_b16, aim_vit_l14)."""
    frozen: bool = False
    """Take a model of transformers as it is, without AIM's adapters: CLIP and SigLIP with their text towers, DINOv2, V-JEPA 2, VideoMAE."""
    seed: int = 0
    """Seed of the tensors that the source does not have."""
    overwrite: bool = False
    """Replace another bundle in `out`. Anything other than a bundle is never replaced."""

    def __post_init__(self) -> None:
        if self.expect is not None and self.expect not in AIM_PRESETS:
            raise ValueError(f"expect is {self.expect!r}; choose one of {sorted(AIM_PRESETS)}")
        for name in ("num_frames", "num_heads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        scale = self.adapter_scale
        if scale is not None and not 0 < scale < math.inf:
            raise ValueError(f"adapter_scale is {scale}; it must be a finite number above 0")
