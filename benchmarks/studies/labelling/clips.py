"""Clips of dives for the study of labelling: the frames that an encoder samples, rendered, and their vectors.

Only those frames are kept and no video is written: what is studied begins with vectors. C classes, T frames, H W pixels, D vector.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.dives.archive import run_jobs
from benchmarks.dives.random_streams import clip_index
from benchmarks.dives.rendering.pose import render_clip
from encoders.backends.base import embed_with_length
from encoders.backends.registry import open_backend
from encoders.bundle.card import read_card
from encoders.media.sampling import sample_positions
from training.annotations.labels.dive_numbers import DIVE_CLASSES

NUM_FRAMES, FRAME_SIZE = 24, 64
"""What the demo's encoder and the shipped one sample."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiveClips:
    """Clips of every class: how many of each class and split, and of which rendering."""

    counts: tuple[tuple[str, int], ...]
    """Split, and clips per class."""
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledVectors:
    """Clip vectors and the number of each clip's class."""

    vectors_ND: np.ndarray
    classes_N: np.ndarray


def write_frames(folder: Path, clips: DiveClips, *, num_workers: int, quiet: bool = False) -> None:
    """Render what is missing: a file of uint8 [C, T, H, W, 3] for the n-th clip of every class."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        (split, ordinal, clips.seed, path)
        for split, ordinal, path in _files(folder, clips)
        if not path.exists()
    ]
    run_jobs(_render, jobs, num_workers=num_workers, quiet=quiet, title="render")


def embed(folder: Path, bundle: Path, clips: DiveClips) -> dict[str, LabelledVectors]:
    """Split -> unit vectors of the bundle's video encoder. ValueError for a bundle that samples otherwise."""
    sampling = read_card(bundle).sampling
    if (sampling.num_frames, sampling.frame_size) != (NUM_FRAMES, FRAME_SIZE):
        raise ValueError(
            f"{bundle} samples {sampling.num_frames} frames of {sampling.frame_size} pixels; "
            f"this study renders {NUM_FRAMES} of {FRAME_SIZE}"
        )
    backend = open_backend(bundle, "torch")
    parts: dict[str, list[np.ndarray]] = {split: [] for split, _ in clips.counts}
    for split, _, path in _files(folder, clips):
        with np.load(path) as file:
            frames_CTHWC = file["frames"]
        vectors = [embed_with_length(backend, frames[None])[0][0] for frames in frames_CTHWC]
        parts[split].append(np.stack(vectors))
    return {
        split: LabelledVectors(
            vectors_ND=np.concatenate(of_split),
            classes_N=np.tile(np.arange(len(DIVE_CLASSES)), len(of_split)),
        )
        for split, of_split in parts.items()
    }


def _files(folder: Path, clips: DiveClips) -> Iterable[tuple[str, int, Path]]:
    for split, count in clips.counts:
        for ordinal in range(count):
            yield split, ordinal, folder / f"{clips.seed}-{split}-{ordinal:03d}.npz"


def _render(job: tuple[str, int, int, Path]) -> None:
    split, ordinal, seed, path = job
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    frames = []
    for label in DIVE_CLASSES:
        clip = render_clip(
            label,
            seed=seed,
            split=split,
            index=clip_index(label, ordinal),
            difficulty="open",
            size=FRAME_SIZE,
        )
        frames.append(clip.frames_THWC[sample_positions(len(clip.frames_THWC), NUM_FRAMES)])
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.savez_compressed(file, frames=np.stack(frames))
    temporary.replace(path)
