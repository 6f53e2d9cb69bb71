"""Trains the small image part on rendered frames with their true poses, and writes it as the weights that the package ships.

Stands in for the image pretraining that CLIP gives the full encoder. Every frame comes from the `pretrain` streams of the
renderer, which no archive uses. B frames of a batch, H W pixels, C channels, P pose numbers.
"""

import argparse
import dataclasses
import hashlib
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import safetensors.torch
import torch
from rich.console import Console
from torch import Tensor, nn

from benchmarks.dives.rendering.pose import MIRROR_ORDER, MIRROR_SIGN, POSE_COLUMNS
from benchmarks.harness.record import capture_environment
from benchmarks.pretraining.frames import PosedFrames, PosedPool, render_pool
from cluster.progress import progress_bar
from cluster.storage import write_atomic
from encoders.video_encoder.base import normalize_pixels
from encoders.video_encoder.config import POSE_PREPROCESSING, PoseImageConfig, Preprocessing
from encoders.video_encoder.pose_image import WEIGHTS_FOLDER, PoseImage

HELD_OUT_FIRST_INDEX = 10_000_000
_GROUPS = ("front", "axis", "cos", "dry_share", "joints")


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig:
    """One pretraining; the same config and package versions give the same frames in the same order."""

    name: str
    """Of the two files that are written."""
    out: Path = WEIGHTS_FOLDER
    image: PoseImageConfig = field(default_factory=PoseImageConfig)
    seed: int = 0
    num_clips: int = 2400
    """Half of them of each difficulty."""
    num_held_out_clips: int = 100
    render_size: int = 128
    num_steps: int = 5000
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    num_warmup_steps: int = 100
    colour_jitter: float = 0.05
    num_workers: int = 2
    """Processes that render."""
    num_threads: int = 2
    """Threads of torch."""

    def __post_init__(self) -> None:
        counts = ("num_clips", "num_held_out_clips", "num_steps", "batch_size", "num_workers")
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be above 0")
        if self.image.pose_dim != len(POSE_COLUMNS):
            raise ValueError(
                f"pose_dim is {self.image.pose_dim}; the renderer gives {len(POSE_COLUMNS)}"
            )


def pose_scale(pose_BP: Tensor) -> Tensor:
    """What an error is measured in, per column: the spread of the truth, and how much the column matters."""
    weight_P = torch.tensor([_column_weight(name) for name in POSE_COLUMNS])
    return pose_BP.std(dim=0).clamp(min=0.1) / weight_P.sqrt()


def train_pose(
    config: PretrainConfig,
    module: nn.Module,
    predict: Callable[[Tensor], Tensor],
    batches: Iterable[PosedFrames],
    scale_P: Tensor,
    console: Console,
) -> list[float]:
    """Train `module`, whose `predict` gives poses [B, P] from pixels; returns the loss every 100 steps."""
    optimizer = torch.optim.AdamW(
        module.parameters(), config.learning_rate, (0.9, 0.98), weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: _rate(step, config.num_warmup_steps, config.num_steps)
    )
    losses: list[float] = []
    with progress_bar("train", config.num_steps, console=console) as update:
        for step, batch in enumerate(batches):
            with torch.autocast("cpu", torch.bfloat16):
                pose_BP = predict(batch.frames_BHWC)
            loss = ((pose_BP.float() - batch.pose_BP) / scale_P).square().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if step % 100 == 0 or step == config.num_steps - 1:
                losses.append(round(loss.item(), 5))
            update(step + 1, f"loss {losses[-1]:.4f}")
    return losses


def train_image(
    config: PretrainConfig, frames: PosedFrames, console: Console
) -> tuple[PoseImage, list[float]]:
    """The trained image part, and the loss every 100 steps."""
    torch.manual_seed(config.seed)
    image = PoseImage(config.image).train()
    image.convs.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    losses = train_pose(
        config,
        image,
        lambda pixels_BCHW: image.forward_pixels(pixels_BCHW)[:, config.image.feature_dim :],
        pixel_batches(config, frames, POSE_PREPROCESSING),
        pose_scale(frames.pose_BP),
        console,
    )
    return image.eval(), losses


def measure(predict: Callable[[Tensor], Tensor], frames: PosedFrames) -> dict[str, float]:
    """Share of the variance explained (R squared), averaged over each group of columns, and whether a diver that faces to
    or from the camera is told right. `predict` gives poses from uint8 frames."""
    with torch.no_grad():
        pose_BP = torch.cat([predict(part_BHWC) for part_BHWC in frames.frames_BHWC.split(512)])
    true_BP = frames.pose_BP
    error_P = (pose_BP - true_BP).square().mean(dim=0)
    r2_P = 1 - error_P / true_BP.var(dim=0, correction=0).clamp(min=1e-6)
    groups = {
        group: [n for n, name in enumerate(POSE_COLUMNS) if _group(name) == group]
        for group in _GROUPS
    }
    metrics = {f"r2_{group}": r2_P[columns].mean().item() for group, columns in groups.items()}
    depth = POSE_COLUMNS.index("chest_front_z")
    is_clear_B = true_BP[:, depth].abs() > 0.5
    is_right_B = pose_BP[:, depth].sign() == true_BP[:, depth].sign()
    metrics["r2_chest_front_z"] = r2_P[depth].item()
    if is_clear_B.any():
        metrics["facing_right"] = is_right_B[is_clear_B].float().mean().item()
    return {name: round(value, 4) for name, value in metrics.items()}


def render_pools(config: PretrainConfig, console: Console) -> tuple[PosedFrames, PosedFrames]:
    """Frames to train on, and held-out ones; no clip is in both, or in an archive."""
    training = PosedPool(
        num_clips=config.num_clips,
        first_index=0,
        seed=config.seed,
        render_size=config.render_size,
        image_size=config.image.image_size,
    )
    held_out = replace(
        training, num_clips=config.num_held_out_clips, first_index=HELD_OUT_FIRST_INDEX
    )
    workers = config.num_workers
    return render_pool(training, workers, console), render_pool(held_out, workers, console)


def pretrain(config: PretrainConfig, *, command: str, console: Console) -> dict[str, object]:
    """Render, train, measure on held-out clips, write; returns what the JSON says."""
    torch.set_num_threads(config.num_threads)
    started = time.monotonic()
    frames, held_out = render_pools(config, console)
    rendered = time.monotonic()
    image, losses = train_image(config, frames, console)
    trained = time.monotonic()
    feature_dim = config.image.feature_dim
    info: dict[str, object] = {
        "what": "image part of frame_temporal encoders, pretrained on rendered frames with true poses",
        "command": command,
        "config": dataclasses.asdict(config.image),
        "pretraining": {
            key: value
            for key, value in dataclasses.asdict(config).items()
            if key not in ("image", "out")
        },
        "pose_columns": POSE_COLUMNS,
        "num_frames": len(frames.frames_BHWC),
        "seconds": {"render": round(rendered - started), "train": round(trained - rendered)},
        "losses_every_100_steps": losses,
        "held_out": measure(lambda part_BHWC: image(part_BHWC)[:, feature_dim:], held_out)
        | {"num_frames": len(held_out.frames_BHWC)},
        "recorded_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": capture_environment(),
    }
    data = safetensors.torch.save(
        {name: tensor.contiguous() for name, tensor in image.state_dict().items()}
    )
    info["sha256"] = hashlib.sha256(data).hexdigest()
    write_atomic(config.out / f"{config.name}.safetensors", data)
    write_atomic(config.out / f"{config.name}.json", json.dumps(info, indent=1) + "\n")
    return info


def pixel_batches(
    config: PretrainConfig, frames: PosedFrames, preprocessing: Preprocessing
) -> Iterator[PosedFrames]:
    """Normalised pixels [B, C, H, W] with other colours, half of them mirrored, and their poses."""
    generator = torch.Generator().manual_seed(config.seed)
    order, sign_P = torch.from_numpy(MIRROR_ORDER), torch.from_numpy(MIRROR_SIGN)
    for _step in range(config.num_steps):
        chosen_B = torch.randint(len(frames.pose_BP), (config.batch_size,), generator=generator)
        pixels_BCHW = normalize_pixels(
            frames.frames_BHWC[chosen_B].unsqueeze(0), preprocessing, torch.float32
        )
        pose_BP = frames.pose_BP[chosen_B]
        is_mirrored_B = torch.rand(config.batch_size, generator=generator) < 0.5
        pixels_BCHW = torch.where(
            is_mirrored_B[:, None, None, None], pixels_BCHW.flip(3), pixels_BCHW
        )
        pose_BP = torch.where(is_mirrored_B[:, None], pose_BP[:, order] * sign_P, pose_BP)
        noise_BCC = torch.randn(config.batch_size, 3, 3, generator=generator)
        mix_BCC = torch.eye(3) + config.colour_jitter * noise_BCC
        shift_BC = config.colour_jitter * torch.randn(config.batch_size, 3, generator=generator)
        pixels_BCHW = torch.einsum("bij,bjhw->bihw", mix_BCC, pixels_BCHW)
        pixels_BCHW = pixels_BCHW + shift_BC[:, :, None, None]
        yield PosedFrames(pixels_BCHW.contiguous(memory_format=torch.channels_last), pose_BP)


def _group(column: str) -> str:
    stem = column.rsplit("_", 1)[0]
    if column == "dry_share" or column.endswith("_cos"):
        return "cos" if column.endswith("_cos") else column
    return next((g for g in ("front", "axis") if stem.endswith(g)), "joints")


def _column_weight(column: str) -> float:
    """Directions first: they carry the count. Elbows and wet feet hardly matter."""
    if column == "dry_share" or "elbow" in column:
        return 0.25
    return {"front": 2.0, "axis": 1.0, "cos": 1.0, "joints": 0.5}[_group(column)]


def _rate(step: int, num_warmup_steps: int, num_steps: int) -> float:
    return min(1.0, (step + 1) / max(1, num_warmup_steps)) * (1 - (step / num_steps) ** 1.5)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pretraining.pose_image",
        description=__doc__,
        epilog="example: python -m benchmarks.pretraining.pose_image --name pose_image_small --num-clips 2400 --num-steps 5000",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--name", required=True, help="of the two files that are written")
    parser.add_argument("--out", type=Path, default=WEIGHTS_FOLDER, help="folder (%(default)s)")
    numbers = [f for f in dataclasses.fields(PretrainConfig) if f.type in (int, float)]
    for option in numbers:
        flag = "--" + option.name.replace("_", "-")
        parser.add_argument(flag, type=option.type, default=option.default, help="(%(default)s)")
    arguments = parser.parse_args(argv)
    config = PretrainConfig(**vars(arguments))
    given = sys.argv[1:] if argv is None else argv
    command = shlex.join(["python", "-m", "benchmarks.pretraining.pose_image", *given])
    info = pretrain(config, command=command, console=Console(stderr=True))
    write_report = json.dumps({"held_out": info["held_out"], "seconds": info["seconds"]})
    sys.stdout.write(f"{config.out / config.name}.safetensors: {write_report}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
