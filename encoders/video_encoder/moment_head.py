"""Finds where something happens in a long video: for each glance whether it is within an action, and whether one begins or ends there.

A glance is a small frame, so many times a second; a few convolutions see it beside the one before. They take a sixtieth of the
multiplications of PoseImage, so that a whole video can be looked at, and the encoder sees only what is proposed. Dilated convolutions
then mix the glances of some seconds. Boundaries as in BSN (Lin et al., ECCV 2018, section 3.3): one probability curve each.
T glances, H W pixels, C = 3 (RGB), D width, K = 4 curves.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.video_encoder.config import MomentConfig

CURVES = ("action", "start", "end", "replay")
_CONV_WIDTHS = (16, 24, 32)
_DILATIONS = (1, 2, 4, 8, 16)


class MomentHead(nn.Module):
    """uint8 glances of one video [T, H, W, C] -> logits of the curves [T, K]."""

    def __init__(self, config: MomentConfig) -> None:
        super().__init__()
        self.config = config
        channels = (6, *_CONV_WIDTHS)
        self.convs = nn.ModuleList(
            nn.Conv2d(channels[i], channels[i + 1], 3, stride=2, padding=1)
            for i in range(len(_CONV_WIDTHS))
        )
        side = config.glance_size // 2 ** len(_CONV_WIDTHS)
        self.seen = nn.Linear(_CONV_WIDTHS[-1] * side * side, config.width)
        self.mixers = nn.ModuleList(
            nn.Conv1d(config.width, config.width, 3, padding=d, dilation=d) for d in _DILATIONS
        )
        self.norms = nn.ModuleList(nn.LayerNorm(config.width) for _ in _DILATIONS)
        self.curves = nn.Linear(config.width, len(CURVES))

    def glance_vectors(self, glances_NTHWC: Tensor, before_NHWC: Tensor | None = None) -> Tensor:
        """[N, T, D]; `before` is the glance before the first one, so that a long video may come in blocks."""
        pixels_NTCHW = glances_NTHWC.permute(0, 1, 4, 2, 3).float() / 128 - 1
        first_NCHW = pixels_NTCHW[:, 0]
        if before_NHWC is not None:
            first_NCHW = before_NHWC.permute(0, 3, 1, 2).float() / 128 - 1
        earlier_NTCHW = torch.cat([first_NCHW[:, None], pixels_NTCHW[:, :-1]], dim=1)
        x_BCHW = torch.cat([pixels_NTCHW, pixels_NTCHW - earlier_NTCHW], dim=2).flatten(0, 1)
        for conv in self.convs:
            x_BCHW = F.relu(conv(x_BCHW))
        return F.relu(self.seen(x_BCHW.flatten(1))).unflatten(0, glances_NTHWC.shape[:2])

    def mix(self, vectors_NTD: Tensor) -> Tensor:
        """Glance vectors -> logits of the curves [N, T, K]."""
        for norm, mixer in zip(self.norms, self.mixers, strict=True):
            mixed_NDT = mixer(norm(vectors_NTD).transpose(1, 2))
            vectors_NTD = vectors_NTD + F.gelu(mixed_NDT).transpose(1, 2)
        return self.curves(vectors_NTD)

    def forward(self, glances_NTHWC: Tensor) -> Tensor:
        return self.mix(self.glance_vectors(glances_NTHWC))


def curves_of_video(head: MomentHead, blocks_THWC: Iterable[np.ndarray]) -> np.ndarray:
    """Probabilities [T, K] of a video's glances, which may come in blocks: only their vectors stay in memory."""
    vectors: list[Tensor] = []
    before_1HWC: Tensor | None = None
    with torch.inference_mode():
        for block_THWC in blocks_THWC:
            glances_THWC = torch.from_numpy(np.ascontiguousarray(block_THWC))
            vectors.append(head.glance_vectors(glances_THWC[None], before_1HWC)[0])
            before_1HWC = glances_THWC[-1:]
        if not vectors:
            return np.zeros((0, len(CURVES)), np.float32)
        return torch.sigmoid(head.mix(torch.cat(vectors)[None])[0]).numpy()
