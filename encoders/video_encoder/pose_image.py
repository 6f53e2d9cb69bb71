"""A small convolutional image encoder of divers, pretrained on rendered frames with true poses.

B frames, H W pixels, C channels. The shipped weights lie in `encoders/video_encoder/weights`, beside a JSON that says which command, seed and
commit made them and how well they do; `benchmarks/pretraining/pose_image.py` writes both.
"""

import hashlib
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.files import parse_json
from encoders.video_encoder.base import normalize_pixels
from encoders.video_encoder.config import POSE_PREPROCESSING, PoseImageConfig

WEIGHTS_FOLDER = Path(__file__).parent / "weights"


class _Halve(nn.Module):
    """A strided convolution, then a residual pair of convolutions where asked for."""

    def __init__(self, in_channels: int, out_channels: int, *, residual: bool) -> None:
        super().__init__()
        self.down = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
        self.down_norm = nn.BatchNorm2d(out_channels)
        self.residual = residual
        if residual:
            self.first = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
            self.first_norm = nn.BatchNorm2d(out_channels)
            self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
            self.second_norm = nn.BatchNorm2d(out_channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = F.relu(self.down_norm(self.down(x_BCHW)))
        if not self.residual:
            return x_BCHW
        y_BCHW = F.relu(self.first_norm(self.first(x_BCHW)))
        return F.relu(x_BCHW + self.second_norm(self.second(y_BCHW)))


class PoseImage(nn.Module):
    """uint8 frames [B, H, W, 3] -> frame vectors [B, vector_dim]: features, then the pose in camera coordinates."""

    def __init__(self, config: PoseImageConfig) -> None:
        super().__init__()
        self.config = config
        channels = (3, *config.conv_widths)
        self.convs = nn.Sequential(
            *(
                _Halve(channels[i], channels[i + 1], residual=i > 0)
                for i in range(len(channels) - 1)
            )
        )
        side = config.image_size // 2 ** len(config.conv_widths)
        self.features = nn.Linear(channels[-1] * side * side, config.feature_dim)
        self.pose = nn.Linear(config.feature_dim, config.pose_dim)

    def forward(self, frames_BHWC: Tensor) -> Tensor:
        dtype = self.pose.weight.dtype
        pixels_BCHW = normalize_pixels(frames_BHWC.unsqueeze(0), POSE_PREPROCESSING, dtype)
        return self.forward_pixels(pixels_BCHW)

    def forward_pixels(self, pixels_BCHW: Tensor) -> Tensor:
        """The same from normalised pixels, for training that alters colours first."""
        maps_BCHW = self.convs(pixels_BCHW)
        features_BF = F.gelu(self.features(maps_BCHW.flatten(1)))
        return torch.cat([features_BF, self.pose(features_BF)], dim=1)


def load_pose_image(name: str) -> PoseImage:
    """The image part shipped as `encoders/video_encoder/weights/<name>.safetensors`, in eval mode; refuses a file its JSON doesn't describe."""
    weights_path, info_path = (
        WEIGHTS_FOLDER / f"{name}.safetensors",
        WEIGHTS_FOLDER / f"{name}.json",
    )
    if not info_path.is_file() or not weights_path.is_file():
        known = sorted(path.stem for path in WEIGHTS_FOLDER.glob("*.safetensors"))
        raise ValueError(
            f"no pretrained image part {name!r} in {WEIGHTS_FOLDER}; there are {known}"
        )
    info = parse_json(info_path.read_text())
    data = weights_path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != info["sha256"]:
        raise ValueError(
            f"{weights_path} has sha256 {sha256}, but {info_path.name} says {info['sha256']}; one of them was changed or is truncated"
        )
    image = PoseImage(PoseImageConfig(**info["config"]))
    image.load_state_dict(safetensors.torch.load(data))
    return image.eval()
