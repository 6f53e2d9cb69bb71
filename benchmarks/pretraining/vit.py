"""Trains a small image transformer of CLIP's form on rendered frames: AIM wants a pretrained CLIP, and no web-scale weights come here.

Its class token learns the true pose and the features of the shipped image part, its patches that part's last map. Rerun the same
command after an interruption: frames and checkpoint lie beside the folder that is written, which `pretrained_image` of an AIM recipe
takes. B frames of a batch, H W pixels, C channels, P pose numbers, L patches, D width, F features, M channels of the teacher's map.
"""

import argparse
import hashlib
import io
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModel

from benchmarks.dives.rendering.pose import MIRROR_ORDER, MIRROR_SIGN, POSE_COLUMNS
from benchmarks.harness.record import capture_environment
from benchmarks.pretraining.frames import PosedFrames, PosedPool, cached_pool
from benchmarks.pretraining.pose_image import HELD_OUT_FIRST_INDEX, measure, pose_scale
from benchmarks.pretraining.teacher import Targets, distillation_targets
from cluster.progress import progress_bar
from cluster.storage import write_atomic
from encoders.video_encoder.base import normalize_pixels
from encoders.video_encoder.config import AIM_PRESETS, AimConfig, Preprocessing

_NUM_PATCHES_FOR_FILTERS = 50_000
_DECAY_FROM = 0.8  # of all steps


@dataclass(frozen=True, kw_only=True, slots=True)
class VitPretrainConfig:
    """One pretraining; the same config and package versions give the same weights, interrupted or not."""

    name: str
    """Of the folder that is written."""
    out: Path
    """Where it is written."""
    preset: str = "aim_tiny"
    """AIM encoder that will start from the weights."""
    teacher: str = "pose_image_small"
    """Shipped image part to distil from."""
    seed: int = 0
    num_clips: int = 1000
    """Rendered clips, half of them of each difficulty."""
    num_held_out_clips: int = 60
    render_size: int = 128
    num_steps: int = 20_000
    """A checkpoint from before the fall of the learning rate goes on towards another number of steps too."""
    batch_size: int = 64
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    num_warmup_steps: int = 200
    colour_jitter: float = 0.05
    snapshot_every: int = 1000
    """Measure on held-out clips every this many steps."""
    save_every_s: float = 120.0
    num_workers: int = 2
    """Processes that render."""
    num_threads: int = 1
    """Threads of torch."""

    def __post_init__(self) -> None:
        counts = ("num_clips", "num_held_out_clips", "num_steps", "batch_size")
        for name in (*counts, "snapshot_every", "num_workers", "num_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be above 0")
        if self.preset not in AIM_PRESETS:
            raise ValueError(f"preset is {self.preset!r}; choose one of {sorted(AIM_PRESETS)}")

    @property
    def first_decay_step(self) -> int:
        """The learning rate falls from here on."""
        return int(_DECAY_FROM * self.num_steps)

    def rate(self, step: int) -> float:
        """Factor on the learning rate: a linear warm-up, a plateau, and a linear fall towards zero."""
        warmup = min(1.0, (step + 1) / max(1, self.num_warmup_steps))
        left = (self.num_steps - step) / (self.num_steps - self.first_decay_step)
        return min(warmup, left)


class PosedTransformer(nn.Module):
    """CLIP's image transformer of an AIM config, with linear maps from its tokens to pose and teacher."""

    def __init__(self, aim: AimConfig, *, num_features: int, num_channels: int) -> None:
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
            )
        )
        self.pose = nn.Linear(aim.width, len(POSE_COLUMNS))
        self.features = nn.Linear(aim.width, num_features)
        self.map = nn.Sequential(nn.LayerNorm(aim.width), nn.Linear(aim.width, num_channels))

    def forward(self, frames_BHWC: Tensor) -> Tensor:
        """Poses [B, P] of uint8 frames."""
        pixels_BCHW = normalize_pixels(frames_BHWC.unsqueeze(0), self.preprocessing, torch.float32)
        return self.forward_pixels(pixels_BCHW)[0]

    def forward_pixels(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Poses [B, P], features [B, F] and map [B, L, M] from normalised pixels."""
        outputs: Any = self.vision(pixel_values=pixels_BCHW)
        class_BD, patches_BLD = outputs.pooler_output, outputs.last_hidden_state[:, 1:]
        return self.pose(class_BD), self.features(class_BD), self.map(patches_BLD)

    def start_filters(self, frames_BHWC: Tensor) -> None:
        """Patch filters = the strongest principal components of real patches without their mean colour, and three of the mean colour.

        Random filters of 16 x 16 pixels see hardly more than the colour of the backdrop. With these, a patch of plain backdrop gives
        little but its position, which starts large enough to outweigh noise in the layer norm, and the diver stands out.
        """
        filters: Any = self.vision.get_input_embeddings()
        size, width = filters.weight.shape[-1], filters.weight.shape[0]
        pixels_BCHW = normalize_pixels(frames_BHWC.unsqueeze(0), self.preprocessing, torch.float32)
        patches = F.unfold(pixels_BCHW, size, stride=size).transpose(1, 2).flatten(0, 1)
        patches = patches[:: max(1, len(patches) // _NUM_PATCHES_FOR_FILTERS)]
        values, vectors = torch.linalg.eigh(torch.cov(_without_mean_colour(patches).T))
        strongest = values.argsort(descending=True)[: width - 3]
        # Weaker components are amplified by half of what would level them.
        shapes = vectors[:, strongest].T / values[strongest].clamp(min=1e-4).pow(0.25).unsqueeze(1)
        shapes = _without_mean_colour(shapes)
        colours = torch.eye(3).repeat_interleave(size * size, dim=1)
        scaled = torch.cat(
            [
                shapes / (patches @ shapes.T).std().clamp(min=0.1),
                colours / (patches @ colours.T).std().clamp(min=0.1) / 2,
            ]
        )
        with torch.no_grad():
            filters.weight[: len(scaled)].copy_(scaled.reshape(-1, *filters.weight.shape[1:]))
            for name, parameter in self.vision.named_parameters():
                if name.endswith(("position_embedding.weight", "class_embedding")):
                    parameter.normal_(std=0.5)


@dataclass(kw_only=True, slots=True)
class _Progress:
    """What a checkpoint keeps beside the weights."""

    step: int = 0
    cpu_s: float = 0.0
    """CPU time of the steps, of all threads."""
    losses: list[list[float]] = field(default_factory=list)
    """Loss of pose, features and map every 100 steps."""
    snapshots: list[dict[str, float]] = field(default_factory=list)
    """Held-out figures at several budgets, the learning rate still high in those before the last fifth."""


class Pretraining:
    """A run that can stop after any step and go on from its last checkpoint."""

    def __init__(self, config: VitPretrainConfig, pools: tuple[PosedFrames, PosedFrames]) -> None:
        torch.set_num_threads(config.num_threads)
        self.config, (self.frames, self.held_out) = config, pools
        self._checkpoint = work_folder(config) / "checkpoint.pt"
        aim = AIM_PRESETS[config.preset]
        self._targets: Targets = distillation_targets(
            config.teacher, self.frames, num_patches=aim.image_size // aim.patch_size
        )
        torch.manual_seed(config.seed)
        self.module = PosedTransformer(
            aim,
            num_features=self._targets.features_2BF.shape[-1],
            num_channels=self._targets.maps_2BLM.shape[-1],
        ).train()
        self.module.start_filters(
            self.frames.frames_BHWC[:: max(1, len(self.frames.pose_BP) // 4000)]
        )
        self._scale_P = pose_scale(self.frames.pose_BP)
        decayed = [p for p in self.module.parameters() if p.ndim > 1]
        others = [p for p in self.module.parameters() if p.ndim <= 1]
        self._optimizer = torch.optim.AdamW(
            [{"params": decayed}, {"params": others, "weight_decay": 0.0}],
            config.learning_rate,
            (0.9, 0.98),
            weight_decay=config.weight_decay,
        )
        self.progress = _Progress()
        self._resume()

    def run(self, console: Console) -> None:
        """All steps that are left."""
        config, progress = self.config, self.progress
        saved, cpu_started = time.monotonic(), time.process_time() - progress.cpu_s
        with progress_bar("train", config.num_steps, console=console) as update:
            while progress.step < config.num_steps:
                losses = self._train_step(progress.step)
                if progress.step % 100 == 0:
                    progress.losses.append([round(loss, 4) for loss in losses])
                progress.step += 1
                progress.cpu_s = time.process_time() - cpu_started
                if progress.step % config.snapshot_every == 0 or progress.step == config.num_steps:
                    self._take_snapshot()
                    cpu_started = time.process_time() - progress.cpu_s
                if time.monotonic() - saved > config.save_every_s:
                    self._save()
                    saved = time.monotonic()
                update(progress.step, "loss " + " ".join(f"{loss:.3f}" for loss in losses))
        self._save()

    def _train_step(self, step: int) -> list[float]:
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self.config.rate(step)
        pixels_BCHW, pose_BP, features_BF, map_BLM = self._batch(step)
        found_BP, found_BF, found_BLM = self.module.forward_pixels(pixels_BCHW)
        losses = (
            ((found_BP - pose_BP) / self._scale_P).square().mean(),
            (found_BF - features_BF).square().mean(),
            (found_BLM - map_BLM).square().mean(),
        )
        self._optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self._optimizer.step()
        return [loss.item() for loss in losses]

    def _batch(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pixels with other colours, half of them mirrored, and their targets; a function of seed and step alone."""
        config = self.config
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        size = (config.batch_size,)
        chosen_B = torch.randint(len(self.frames.pose_BP), size, generator=generator)
        is_mirrored_B = torch.rand(size, generator=generator) < 0.5
        pixels_BCHW = normalize_pixels(
            self.frames.frames_BHWC[chosen_B].unsqueeze(0), self.module.preprocessing, torch.float32
        )
        pixels_BCHW = torch.where(
            is_mirrored_B[:, None, None, None], pixels_BCHW.flip(3), pixels_BCHW
        )
        noise_BCC = torch.randn(*size, 3, 3, generator=generator)
        mix_BCC = torch.eye(3) + config.colour_jitter * noise_BCC
        shift_BC = config.colour_jitter * torch.randn(*size, 3, generator=generator)
        pixels_BCHW = torch.einsum("bij,bjhw->bihw", mix_BCC, pixels_BCHW)
        pose_BP = self.frames.pose_BP[chosen_B]
        mirrored_BP = pose_BP[:, torch.from_numpy(MIRROR_ORDER)] * torch.from_numpy(MIRROR_SIGN)
        return (
            pixels_BCHW + shift_BC[:, :, None, None],
            torch.where(is_mirrored_B[:, None], mirrored_BP, pose_BP),
            *self._targets.chosen(is_mirrored_B, chosen_B),
        )

    def _take_snapshot(self) -> None:
        budget = {"step": self.progress.step, "cpu_s": round(self.progress.cpu_s, 1)}
        self.module.eval()
        self.progress.snapshots.append(budget | measure(self.module, self.held_out))
        self.module.train()

    def _save(self) -> None:
        buffer = io.BytesIO()
        state = {
            "config": _described(self.config),
            "module": self.module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "progress": asdict(self.progress),
        }
        torch.save(state, buffer)
        write_atomic(self._checkpoint, buffer.getvalue())

    def _resume(self) -> None:
        if not self._checkpoint.is_file():
            return
        state = torch.load(self._checkpoint, weights_only=True)
        wanted, steps = _described(self.config), self.config.num_steps
        if {**state["config"], "num_steps": steps} != wanted:
            raise ValueError(
                f"{self._checkpoint} is of another pretraining; choose another --name, or delete {self._checkpoint.parent}"
            )
        step, old_steps = state["progress"]["step"], state["config"]["num_steps"]
        if old_steps != steps and step > _DECAY_FROM * min(old_steps, steps):
            raise ValueError(
                f"num_steps is {steps}; {self._checkpoint} is at step {step} of {old_steps}, and only a checkpoint from the first "
                f"{_DECAY_FROM:.0%} of both can go on to another number"
            )
        self.module.load_state_dict(state["module"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.progress = _Progress(**state["progress"])


def _without_mean_colour(patches: Tensor) -> Tensor:
    """Patches or filters [N, C * H * W], each channel less its mean."""
    channels = patches.unflatten(1, (3, -1))
    return (channels - channels.mean(dim=2, keepdim=True)).flatten(1)


def work_folder(config: VitPretrainConfig) -> Path:
    """Frames and checkpoint; nothing in it is needed once the weights are written."""
    return config.out / f"{config.name}.work"


def _described(config: VitPretrainConfig) -> dict[str, Any]:
    """What the weights depend on."""
    unrelated = ("out", "save_every_s", "snapshot_every", "num_workers")
    return {name: value for name, value in asdict(config).items() if name not in unrelated}


def read_pools(config: VitPretrainConfig, console: Console) -> tuple[PosedFrames, PosedFrames]:
    """Frames to train on, and held-out ones; no clip is in both, or in an archive."""
    training = PosedPool(
        num_clips=config.num_clips,
        first_index=0,
        seed=config.seed,
        render_size=config.render_size,
        image_size=AIM_PRESETS[config.preset].image_size,
    )
    held_out = replace(
        training, num_clips=config.num_held_out_clips, first_index=HELD_OUT_FIRST_INDEX
    )
    folder, workers = work_folder(config), config.num_workers
    return (
        cached_pool(folder / "train.safetensors", training, workers, console),
        cached_pool(folder / "held_out.safetensors", held_out, workers, console),
    )


def pretrain(config: VitPretrainConfig, *, command: str, console: Console) -> dict[str, Any]:
    """Render, train, measure on held-out clips, write the folder `config.out / config.name` with weights in half precision."""
    run = Pretraining(config, read_pools(config, console))
    run.run(console)
    vision = run.module.vision.half()  # measured as written
    folder = config.out / config.name
    vision.save_pretrained(folder)
    run.module.vision = vision.float()
    info = {
        "what": f"image transformer of {config.preset}, pretrained on rendered frames with true poses and {config.teacher}",
        "command": command,
        "pretraining": _described(config),
        "num_frames": len(run.frames.frames_BHWC),
        "train_cpu_s": round(run.progress.cpu_s),
        "losses_every_100_steps": run.progress.losses,
        "snapshots": run.progress.snapshots,
        "held_out": measure(run.module.eval(), run.held_out)
        | {"num_frames": len(run.held_out.frames_BHWC)},
        "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "recorded_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": capture_environment(),
    }
    write_atomic(folder / "pretraining.json", json.dumps(info, indent=1) + "\n")
    return info


def parse(argv: Sequence[str] | None) -> VitPretrainConfig:
    """The config of a command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pretraining.vit",
        description=__doc__,
        epilog="example: python -m benchmarks.pretraining.vit --name vit_tiny --out runs/weights",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--name", required=True, help="of the folder that is written")
    parser.add_argument("--out", type=Path, required=True, help="where it is written")
    parser.add_argument("--preset", choices=sorted(AIM_PRESETS), default="aim_tiny")
    for option in fields(VitPretrainConfig):
        if option.type in (int, float):
            flag = "--" + option.name.replace("_", "-")
            parser.add_argument(
                flag, type=option.type, default=option.default, help="(%(default)s)"
            )
    return VitPretrainConfig(**vars(parser.parse_args(argv)))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    config = parse(argv)
    words = sys.argv[1:] if argv is None else argv
    command = shlex.join(["python", "-m", "benchmarks.pretraining.vit", *words])
    info = pretrain(config, command=command, console=Console(stderr=True))
    sys.stdout.write(f"{config.out / config.name}: {json.dumps(info['held_out'])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
