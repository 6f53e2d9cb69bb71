"""A small video encoder: a frozen image part per frame, then a transformer over the frame vectors. Not AIM.

N clips, T frames, H W pixels, F length of a frame vector, D clip vector. The image part never trains here, so training can compute
the frame vectors of a clip once and run `pool` on samples of them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.video_encoder.base import VideoEncoder
from encoders.video_encoder.config import FrameTemporalConfig
from encoders.video_encoder.pose_image import PoseImage, load_pose_image


class _Block(nn.Module):
    """A pre-norm transformer block over frames."""

    def __init__(self, config: FrameTemporalConfig) -> None:
        super().__init__()
        width = config.embedding_dim
        self.num_heads, self.dropout = config.num_heads, config.dropout
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(4 * width, width),
        )

    def _attend(self, x_NTD: Tensor) -> Tensor:
        num_clips, num_frames, width = x_NTD.shape
        heads = self.query_key_value(x_NTD).view(num_clips, num_frames, 3, self.num_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.attention_out(mixed.transpose(1, 2).reshape(num_clips, num_frames, width))

    def forward(self, x_NTD: Tensor) -> Tensor:
        dropped = F.dropout(
            self._attend(self.attention_norm(x_NTD)), self.dropout, training=self.training
        )
        x_NTD = x_NTD + dropped
        return x_NTD + F.dropout(
            self.mlp(self.mlp_norm(x_NTD)), self.dropout, training=self.training
        )


class FrameTemporalEncoder(VideoEncoder):
    """Frame vectors of a frozen image part, a transformer over their order, and their mean."""

    def __init__(self, config: FrameTemporalConfig) -> None:
        super().__init__(config)
        self.image = PoseImage(config.image).requires_grad_(False).eval()
        width = config.embedding_dim
        self.frame_norm = nn.LayerNorm(config.image.vector_dim)
        self.frame_in = nn.Linear(config.image.vector_dim, width)
        # Sees what changes between neighbouring frames: without it, shuffling the frames hardly hurts.
        self.motion = nn.Conv1d(width, width, 3, padding=1)
        self.positions = nn.Parameter(torch.randn(config.num_frames, width) * 0.02)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)

    def train(self, mode: bool = True) -> "FrameTemporalEncoder":
        """As usual, but the image part keeps its statistics."""
        super().train(mode)
        self.image.eval()
        return self

    def frame_vectors(self, frames_NTHWC: Tensor) -> Tensor:
        """uint8 frames -> [N, T, F]; takes any number of frames, the image part is frozen."""
        num_frames = frames_NTHWC.shape[1]
        vectors_BF = self.image(frames_NTHWC.flatten(0, 1))
        return vectors_BF.unflatten(0, (-1, num_frames))

    def pool(self, frame_vectors_NTF: Tensor) -> Tensor:
        """Frame vectors -> clip vectors [N, D], not normalised.

        The controls average what each frame gives by itself, so a linear head on their clip vector gives the mean of the
        frames' logits, over however many frames come.
        """
        x_NTD = self.frame_in(self.frame_norm(frame_vectors_NTF))
        if self.config.temporal == "ordered":
            if x_NTD.shape[1] != self.config.num_frames:
                raise ValueError(
                    f"{x_NTD.shape[1]} frame vectors a clip; this encoder takes {self.config.num_frames}"
                )
            return self._contextualize(x_NTD, self.positions).mean(dim=1)
        if self.config.temporal == "single" and self.training:
            x_NTD = self._one_frame_each(x_NTD)
        num_frames = x_NTD.shape[1]
        alone_B1D = self._contextualize(x_NTD.reshape(-1, 1, x_NTD.shape[2]), None)
        return alone_B1D.unflatten(0, (-1, num_frames)).mean(dim=(1, 2))

    def features(self, frames_NTHWC: Tensor) -> Tensor:
        """uint8 frames [N, T, H, W, 3] -> clip vectors [N, D], not normalised."""
        self.check_frames(frames_NTHWC)
        return self.pool(self.frame_vectors(frames_NTHWC))

    def freeze_pretrained(self) -> None:
        """Stage 1 learns all but the image part, which is frozen from the start."""
        self.image.requires_grad_(False)

    def _contextualize(self, x_NTD: Tensor, positions_TD: Tensor | None) -> Tensor:
        x_NTD = F.gelu(self.motion(x_NTD.transpose(1, 2))).transpose(1, 2)
        if positions_TD is not None:
            x_NTD = x_NTD + positions_TD
        for block in self.blocks:
            x_NTD = block(x_NTD)
        return self.norm(x_NTD)

    @staticmethod
    def _one_frame_each(x_NTD: Tensor) -> Tensor:
        chosen_N = torch.randint(x_NTD.shape[1], (x_NTD.shape[0],), device=x_NTD.device)
        return x_NTD[torch.arange(x_NTD.shape[0], device=x_NTD.device), chosen_N].unsqueeze(1)


def load_pretrained_image(encoder: FrameTemporalEncoder, name: str) -> None:
    """Put a shipped image part into the encoder; refuses one of another shape."""
    image = load_pose_image(name)
    if image.config != encoder.config.image:
        raise ValueError(f"weights {name!r} are for {image.config}, not for {encoder.config.image}")
    encoder.image.load_state_dict(image.state_dict())
