"""Trains a small image transformer of CLIP's form on the frames and poses that the small image part learns from.

It gives AIM the start that the demo's encoder has, so that the two can be compared: AIM wants a pretrained CLIP, and no
web-scale weights come with this project. Writes a folder that `pretrained_image` of an AIM recipe takes.
B frames of a batch, H W pixels, C channels, P pose numbers.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from benchmarks.dives.rendering.pose import POSE_COLUMNS
from benchmarks.harness.record import capture_environment
from benchmarks.pretraining.pose_image import (
    PretrainConfig,
    measure,
    pixel_batches,
    pose_scale,
    render_pools,
    train_pose,
)
from cluster.storage import write_atomic
from encoders.video_encoder.base import normalize_pixels
from encoders.video_encoder.config import AIM_PRESETS, AimConfig, PoseImageConfig, Preprocessing


class PosedTransformer(nn.Module):
    """CLIP's image transformer of an AIM config, and a linear map from its class token to the pose."""

    def __init__(self, aim: AimConfig) -> None:
        super().__init__()
        self.preprocessing = Preprocessing(mean=aim.pixel_mean, std=aim.pixel_std)
        self.vision = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=aim.width,
                intermediate_size=4 * aim.width,
                num_hidden_layers=aim.depth,
                num_attention_heads=aim.num_heads,
                image_size=aim.image_size,
                patch_size=aim.patch_size,
                hidden_act="quick_gelu",
                initializer_factor=1.0,
            )
        )
        self.pose = nn.Linear(aim.width, len(POSE_COLUMNS))

    def forward(self, frames_BHWC: Tensor) -> Tensor:
        return self.forward_pixels(
            normalize_pixels(frames_BHWC.unsqueeze(0), self.preprocessing, torch.float32)
        )

    def forward_pixels(self, pixels_BCHW: Tensor) -> Tensor:
        """Poses [B, P] from normalised pixels."""
        return self.pose(self.vision(pixel_values=pixels_BCHW).pooler_output)


def pretrain(
    preset: str, config: PretrainConfig, *, command: str, console: Console
) -> dict[str, Any]:
    """Render, train, measure on held-out clips, write the folder `config.out / config.name`."""
    torch.set_num_threads(config.num_threads)
    aim = AIM_PRESETS[preset]
    frames, held_out = render_pools(config, console)
    torch.manual_seed(config.seed)
    transformer = PosedTransformer(aim).train()
    started = time.monotonic()
    losses = train_pose(
        config,
        transformer,
        transformer.forward_pixels,
        pixel_batches(config, frames, transformer.preprocessing),
        pose_scale(frames.pose_BP),
        console,
    )
    info = {
        "what": f"image transformer of {preset}, pretrained on rendered frames with true poses",
        "command": command,
        "pretraining": {k: v for k, v in asdict(config).items() if k not in ("image", "out")},
        "num_frames": len(frames.frames_BHWC),
        "train_seconds": round(time.monotonic() - started),
        "losses_every_100_steps": losses,
        "held_out": measure(transformer.eval(), held_out),
        "recorded_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": capture_environment(),
    }
    folder = config.out / config.name
    transformer.vision.save_pretrained(folder)
    write_atomic(folder / "pretraining.json", json.dumps(info, indent=1) + "\n")
    return info


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pretraining.vit",
        description=__doc__,
        epilog="example: python -m benchmarks.pretraining.vit --name pose_vit --out runs/weights",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--name", required=True, help="of the folder that is written")
    parser.add_argument("--out", type=Path, required=True, help="where it is written")
    parser.add_argument("--preset", choices=sorted(AIM_PRESETS), default="aim_small")
    for name, default in (("num-clips", 2400), ("num-steps", 5000), ("num-threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default, help="(%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="(%(default)s)")
    given = vars(parser.parse_args(argv))
    preset = given.pop("preset")
    image = PoseImageConfig(image_size=AIM_PRESETS[preset].image_size)
    config = PretrainConfig(image=image, num_warmup_steps=200, **given)
    words = sys.argv[1:] if argv is None else argv
    command = shlex.join(["python", "-m", "benchmarks.pretraining.vit", *words])
    info = pretrain(preset, config, command=command, console=Console(stderr=True))
    sys.stdout.write(f"{config.out / config.name}: {json.dumps(info['held_out'])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
