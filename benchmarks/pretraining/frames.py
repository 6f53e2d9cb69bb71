"""Frames for pretraining: rendered clips of the `pretrain` streams, as a decoder would give them, with their true poses.

B frames of a pool, T frames of a clip, H W pixels, C channels, P pose numbers.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import safetensors
import safetensors.torch
import torch
from rich.console import Console
from torch import Tensor

from benchmarks.dives.rendering.pose import render_clip
from cluster.progress import progress_bar
from cluster.storage import write_atomic
from encoders.decoding.frames.pixels import resize_frame
from training.annotations.labels.dive_numbers import DIVE_CLASSES, parse_dive_number

DIFFICULTIES = ("open", "full")
_JPEG_QUALITY = (45, 95)
_NUM_FRAMES_OF_SPLASH = 3


@dataclass(frozen=True, slots=True)
class PosedFrames:
    """Frames with their truth."""

    frames_BHWC: Tensor
    """uint8"""
    pose_BP: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class PosedPool:
    """Which clips are rendered: `num_clips` indices of the pretrain stream from `first_index` on."""

    num_clips: int
    first_index: int
    seed: int
    render_size: int
    image_size: int


def render_pool(pool: PosedPool, num_workers: int, console: Console) -> PosedFrames:
    """All frames of the pool in memory (12 kB a frame at 64 pixels)."""
    labels = clip_labels(pool.num_clips, np.random.default_rng([pool.seed, pool.first_index]))
    tasks = [
        (label, pool.seed, pool.first_index + n, pool.render_size, pool.image_size)
        for n, label in enumerate(labels)
    ]
    frames, poses = [], []
    spawn = multiprocessing.get_context("spawn")  # OpenCV's threads do not survive a fork
    with (
        ProcessPoolExecutor(num_workers, mp_context=spawn) as processes,
        progress_bar("render", pool.num_clips, console=console) as update,
    ):
        for frames_THWC, pose_TP in processes.map(render_posed_clip, tasks, chunksize=4):
            frames.append(torch.from_numpy(frames_THWC))
            poses.append(torch.from_numpy(pose_TP))
            update(len(frames))
    return PosedFrames(torch.cat(frames), torch.cat(poses))


def cached_pool(path: Path, pool: PosedPool, num_workers: int, console: Console) -> PosedFrames:
    """The pool from `path`, rendered and written there first if it is missing or of another pool."""
    described = {name: str(value) for name, value in asdict(pool).items()}
    if path.is_file():
        with safetensors.safe_open(path, framework="pt") as file:
            if file.metadata() == described:
                return PosedFrames(file.get_tensor("frames"), file.get_tensor("pose"))
    frames = render_pool(pool, num_workers, console)
    tensors = {"frames": frames.frames_BHWC, "pose": frames.pose_BP}
    write_atomic(path, safetensors.torch.save(tensors, described))
    return frames


def clip_labels(num_clips: int, rng: np.random.Generator) -> list[str]:
    """Dive numbers to render: dives with twists twice as often, because turning is the harder half of a pose."""
    twisting = [label for label in DIVE_CLASSES if parse_dive_number(label).half_twists]
    pool = [*DIVE_CLASSES, *twisting]
    return [pool[n] for n in rng.integers(len(pool), size=num_clips)]


def render_posed_clip(task: tuple[str, int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(label, seed, index, render size, image size) -> the clip's frames up to the splash, as a decoder might give them."""
    label, seed, index, render_size, image_size = task
    cv2.setNumThreads(1)
    clip = render_clip(
        label,
        seed=seed,
        split="pretrain",
        index=index,
        difficulty=DIFFICULTIES[index % len(DIFFICULTIES)],
        size=render_size,
    )
    end = min(clip.motion.execution.entry_frame + _NUM_FRAMES_OF_SPLASH, len(clip.frames_THWC))
    rng = np.random.default_rng([seed, index])
    quality = int(rng.integers(*_JPEG_QUALITY))
    frames = [
        resize_frame(_compress(frame_HWC, quality), image_size)
        for frame_HWC in clip.frames_THWC[:end]
    ]
    return np.stack(frames), clip.pose_TP[:end]


def _compress(frame_HWC: np.ndarray, quality: int) -> np.ndarray:
    """Block artefacts like those of a video codec."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    _is_ok, data = cv2.imencode(".jpg", frame_HWC[..., ::-1], options)
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1])
