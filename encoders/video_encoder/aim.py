"""AIM (arXiv 2302.03024): a frozen image transformer with adapters, whose attention also runs over frames.

N clips, T frames, H W pixels, C channels, B = N * T pictures, L tokens of a picture (class token first), D width.
Names in the state dict are those of the released checkpoints.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.video_encoder.base import VideoEncoder, normalize_pixels
from encoders.video_encoder.config import AimConfig
from encoders.video_encoder.time_attention import attend_over_frames, has_kernel

_LEARNED_NAMES = ("temporal_embedding", "temporal_pool.", "_Adapter.", "_Adapter_in.")


class Adapter(nn.Module):
    """Two linear layers around an exact GELU; the second starts at zero, so that a new adapter adds nothing."""

    def __init__(self, width: int, hidden_width: int, *, has_skip: bool) -> None:
        super().__init__()
        self.has_skip = has_skip
        self.D_fc1 = nn.Linear(width, hidden_width)
        self.D_fc2 = nn.Linear(hidden_width, width)
        nn.init.trunc_normal_(self.D_fc1.weight, std=0.02)
        nn.init.zeros_(self.D_fc1.bias)
        nn.init.zeros_(self.D_fc2.weight)
        nn.init.zeros_(self.D_fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        adapted = self.D_fc2(F.gelu(self.D_fc1(x)))
        return x + adapted if self.has_skip else adapted


class Attention(nn.Module):
    """Multi-head self-attention over the middle axis of [rows, sequence, D]."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        # [rows, sequence, 3 * heads * head] -> 3 of [rows, heads, sequence, head]
        query, key, value = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))

    def over_frames(self, x_NTLD: Tensor) -> Tensor:
        """The same attention over T, each token on its own: [N, T, L, D] to [N, T, L, D].

        By one kernel where there is one. Elsewhere every token's heads count as heads of their clip, so that nothing is moved in memory:
        query, key and value are made apart, and each is a view [N, L * heads, T, head].
        """
        if has_kernel(x_NTLD, self.num_heads):
            qkv_NTLD = F.linear(x_NTLD, self.in_proj_weight, self.in_proj_bias)
            return self.out_proj(attend_over_frames(qkv_NTLD, self.num_heads))
        query, key, value = (
            F.linear(x_NTLD, weight, bias)
            .unflatten(-1, (self.num_heads, -1))
            .flatten(2, 3)
            .transpose(1, 2)
            for weight, bias in zip(
                self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True
            )
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        heads_NTLHD = mixed.transpose(1, 2).unflatten(2, (-1, self.num_heads))
        return self.out_proj(heads_NTLHD.flatten(3))


class Mlp(nn.Module):
    """CLIP's MLP, with its QuickGELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.c_fc(x)
        return self.c_proj(hidden * torch.sigmoid(1.702 * hidden))


class Block(nn.Module):
    """Attention over frames, the same attention over space, and the MLP, each with its adapter."""

    def __init__(self, config: AimConfig, drop_path: float) -> None:
        super().__init__()
        width, hidden = config.width, int(config.width * config.adapter_ratio)
        self.num_frames, self.drop_path, self.scale = (
            config.num_frames,
            drop_path,
            config.adapter_scale,
        )
        self.attn = Attention(width, config.num_heads)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = Mlp(width)
        self.ln_2 = nn.LayerNorm(width)
        self.MLP_Adapter = Adapter(width, hidden, has_skip=False)
        self.S_Adapter = Adapter(width, hidden, has_skip=True)
        self.T_Adapter = Adapter(width, hidden, has_skip=False)
        if config.num_time_adapters == 2:
            self.T_Adapter_in = Adapter(width, hidden, has_skip=True)
        else:
            self.T_Adapter_in = nn.Identity()

    def forward(self, x_BLD: Tensor) -> Tensor:
        frames_NTLD = self.T_Adapter_in(self.ln_1(x_BLD)).unflatten(0, (-1, self.num_frames))
        attended_BLD = self.T_Adapter(self.attn.over_frames(frames_NTLD)).flatten(0, 1)
        x_BLD = x_BLD + self._drop_clips(attended_BLD)
        x_BLD = x_BLD + self.S_Adapter(self.attn(self.ln_1(x_BLD)))
        normed_BLD = self.ln_2(x_BLD)
        adapted_BLD = self.scale * self.MLP_Adapter(normed_BLD)
        return x_BLD + self.mlp(normed_BLD) + self._drop_clips(adapted_BLD)

    def _drop_clips(self, x_BLD: Tensor) -> Tensor:
        """Stochastic depth: whole clips lose this branch, the others make up for it.

        (In the released code the token axis comes first, so there it drops token positions of the whole batch.)
        """
        if not self.training or self.drop_path == 0:
            return x_BLD
        keep = 1 - self.drop_path
        num_clips = x_BLD.shape[0] // self.num_frames
        kept_N = torch.rand(num_clips, device=x_BLD.device) < keep
        weight_B = (kept_N.to(x_BLD.dtype) / keep).repeat_interleave(self.num_frames)
        return x_BLD * weight_B[:, None, None]


class Transformer(nn.Module):
    """The blocks, under the name that checkpoints give them."""

    def __init__(self, config: AimConfig) -> None:
        super().__init__()
        last = max(config.depth - 1, 1)
        self.resblocks = nn.Sequential(
            *(Block(config, config.drop_path * i / last) for i in range(config.depth))
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        return self.resblocks(x_BLD)


def is_learned(name: str) -> bool:
    """Whether a tensor is AIM's own; the others are CLIP's and frozen."""
    return any(learned in name for learned in _LEARNED_NAMES)


class AimEncoder(VideoEncoder):
    """CLIP's image transformer with AIM's adapters: per frame at the start, over frames once trained."""

    config: AimConfig
    # As in AIM's recipes: biases and the temporal embedding do decay.
    no_weight_decay = (
        *("class_embedding", "positional_embedding", "ln_1", "ln_2", "ln_pre", "ln_post"),
        *("temporal_pool.norm", "temporal_pool.positions", "temporal_pool.question"),
    )

    def __init__(self, config: AimConfig) -> None:
        super().__init__(config)
        width = config.width
        self.conv1 = nn.Conv2d(3, width, config.patch_size, stride=config.patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = nn.Parameter(
            torch.randn(config.num_tokens, width) * width**-0.5
        )
        self.temporal_embedding = nn.Parameter(torch.zeros(1, config.num_frames, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(config)
        self.ln_post = nn.LayerNorm(width)
        self.temporal_pool = None
        if config.temporal_pooling == "attention":
            self.temporal_pool = TemporalPool(config.num_frames, width, config.num_heads)

    def features(self, frames_NTHWC: Tensor) -> Tensor:
        """uint8 frames [N, T, H, W, 3] -> clip vectors [N, D], not normalised."""
        self.check_frames(frames_NTHWC)
        if frames_NTHWC.shape[1] != self.config.num_frames:
            raise ValueError(
                f"clips have {frames_NTHWC.shape[1]} frames; this encoder takes {self.config.num_frames}"
            )
        pixels_BCHW = normalize_pixels(frames_NTHWC, self.preprocessing, self.conv1.weight.dtype)
        x_BLD = self.ln_pre(self._embed_tokens(pixels_BCHW))
        class_token_BD = self.ln_post(self.transformer(x_BLD)[:, 0])
        frames_NTD = class_token_BD.unflatten(0, (-1, self.config.num_frames))
        return (
            frames_NTD.mean(dim=1) if self.temporal_pool is None else self.temporal_pool(frames_NTD)
        )

    def freeze_pretrained(self) -> None:
        """Train only what AIM adds to CLIP: the adapters, the temporal embedding, and the pooling where it is learned."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(is_learned(name))

    def _embed_patches(self, pixels_BCHW: Tensor) -> Tensor:
        """What `conv1` computes, as one matrix product, which is many times as fast on a GPU: patches do not overlap."""
        size = self.config.patch_size
        # [B, C, rows, size, columns, size] -> [B, rows, columns, C, size, size]
        patches = (
            pixels_BCHW.unflatten(3, (-1, size)).unflatten(2, (-1, size)).permute(0, 2, 4, 1, 3, 5)
        )
        return F.linear(patches.flatten(3).flatten(1, 2), self.conv1.weight.flatten(1))

    def _embed_tokens(self, pixels_BCHW: Tensor) -> Tensor:
        patches_BLD = self._embed_patches(pixels_BCHW)
        class_token = self.class_embedding.to(patches_BLD.dtype).expand(
            patches_BLD.shape[0], 1, self.config.width
        )
        x_BLD = torch.cat([class_token, patches_BLD], dim=1) + self.positional_embedding
        x_NTLD = x_BLD.unflatten(0, (-1, self.config.num_frames))
        return (x_NTLD + self.temporal_embedding.unsqueeze(2)).flatten(0, 1)


class TemporalPool(nn.Module):
    """Mean over frames plus what a learned query reads from them, each frame with its learned position.

    Different heads can ask for different moments. The last layer starts at zero, so that a new pool is the paper's mean.
    """

    def __init__(self, num_frames: int, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.positions = nn.Parameter(torch.randn(num_frames, width) * 0.02)
        self.question = nn.Parameter(torch.randn(width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, frames_NTD: Tensor) -> Tensor:
        """Frame vectors [N, T, D] -> clip vectors [N, D]."""
        placed_NTD = self.norm(frames_NTD) + self.positions
        # [N, T, 2 * heads * head] -> 2 of [N, heads, T, head]
        key, value = (
            self.key_value(placed_NTD).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        )
        question = self.question.view(1, self.num_heads, 1, -1)
        weight = ((question * key).sum(dim=-1, keepdim=True) * key.shape[-1] ** -0.5).softmax(dim=2)
        return frames_NTD.mean(dim=1) + self.out((weight * value).sum(dim=2).flatten(1))
