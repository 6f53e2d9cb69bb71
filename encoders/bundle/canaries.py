"""Canary clips: eight synthetic clips with reference vectors, stored in the bundle to detect a changed encoder.

N clips, T frames, H W pixels, C channels, D clip vector.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import safetensors.numpy

from encoders.bundle.card import (
    BundleCard,
    BundleMismatchError,
    CanaryRecord,
    check_file,
    hash_frames,
    read_card,
)
from encoders.bundle.checks import naming_file
from encoders.media.sampling import SamplingConfig

CANARY_FILE = "canaries.safetensors"
NUM_CANARIES = 8
MIN_CANARY_COSINE = 0.999
"""Below it a backend is another encoder; reduced precision stays above."""
# Of a shorter check of the canaries the warm-up is so large a part that another call tells how fast an encoder is.
_WARM_S = 5.0


class ClipEmbedder(Protocol):
    """The part of a backend that the canary check calls."""

    card: BundleCard

    def embed_clips(self, frames_NTHWC: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class CanaryCheck:
    """The canary check of a worker's encoder: how near it is to the bundle's, and how fast."""

    min_cosine: float
    """The lowest cosine of the canary vectors with those of the bundle."""
    clips_per_s: float
    """Throughput of the encoder where it has a core (or its GPU) to itself."""


def synthetic_clips(sampling: SamplingConfig, num_clips: int, *, name: str) -> np.ndarray:
    """uint8 [N, T, H, W, 3]: a coloured texture and a bright block that moves over it, different for each clip.

    Only integer arithmetic and SHA-256, so the same name gives the same bytes everywhere and in every NumPy version.
    """
    if sampling.frame_size is None:
        raise ValueError("synthetic clips need a fixed frame size; sampling.frame_size is None")
    size, num_frames = sampling.frame_size, sampling.num_frames
    clips = np.empty((num_clips, num_frames, size, size, 3), np.uint8)
    for number in range(num_clips):
        digest = np.frombuffer(hashlib.sha256(f"{name}|{number}".encode()).digest(), np.uint8)
        clips[number] = _synthetic_clip(digest.astype(np.int64), num_frames, size)
    return clips


def make_canaries(sampling: SamplingConfig) -> np.ndarray:
    """The eight canary clips [8, T, H, W, 3] at the size that an encoder takes."""
    return synthetic_clips(sampling, NUM_CANARIES, name="canary")


def write_canaries(path: Path, frames_NTHWC: np.ndarray, vectors_ND: np.ndarray) -> CanaryRecord:
    """Keep the canaries' vectors; the frames are made again when they are needed."""
    path.write_bytes(safetensors.numpy.save({"embedding": vectors_ND.astype(np.float32)}))
    return CanaryRecord(num_clips=len(frames_NTHWC), frames_sha256=hash_frames(frames_NTHWC))


def read_canaries(bundle_dir: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Frames [8, T, H, W, 3] and the vectors [8, D] that torch gave at export."""
    folder = Path(bundle_dir)
    card = read_card(folder)
    if card.canaries is None:
        raise BundleMismatchError(
            f"{folder} has no canaries; write them with: tfcovr export --bundle {folder}"
        )
    frames_NTHWC = make_canaries(card.sampling)
    if hash_frames(frames_NTHWC) != card.canaries.frames_sha256:
        raise BundleMismatchError(
            f"{folder}: its canaries were made by another version of this code; export it again"
        )
    path = check_file(folder, card, CANARY_FILE)
    with naming_file(path):
        vectors_ND = safetensors.numpy.load_file(path)["embedding"]
        expected_shape = (len(frames_NTHWC), card.embedding_dim)
        if vectors_ND.dtype != np.float32 or vectors_ND.shape != expected_shape:
            raise ValueError(
                f"embedding is {vectors_ND.dtype} {vectors_ND.shape}; it must be float32 {expected_shape}"
            )
        if not np.allclose(np.linalg.norm(vectors_ND, axis=1), 1, atol=1e-3):
            raise ValueError("embedding has vectors that are not of unit length")
    return frames_NTHWC, vectors_ND


def _lowest_cosine(
    bundle_dir: str | Path,
    backend: ClipEmbedder,
    frames_NTHWC: np.ndarray,
    expected_ND: np.ndarray,
) -> float:
    """BundleMismatchError where it is below MIN_CANARY_COSINE."""
    embedded_ND = np.asarray(backend.embed_clips(frames_NTHWC), dtype=np.float64)
    lowest = float((embedded_ND * expected_ND).sum(axis=1).min())
    if not lowest >= MIN_CANARY_COSINE:
        raise BundleMismatchError(
            f"{bundle_dir}: canary clips come back with cosine {lowest:.6f} to their vectors; "
            f"it must be at least {MIN_CANARY_COSINE}"
        )
    return lowest


def worker_clock(device: str, num_threads: int | None) -> Callable[[], float]:
    """Seconds that a worker is busy: on one core those of its own process, as other workers start and work on the same cores."""
    return time.process_time if device == "cpu" and num_threads == 1 else time.perf_counter


def check_encoder(
    bundle_dir: str | Path,
    backend: ClipEmbedder,
    *,
    clock_s: Callable[[], float],
    embed: Callable[[np.ndarray], object] | None = None,
) -> CanaryCheck:
    """The canary check of a worker, timed; BundleMismatchError where the encoder is another one.

    `embed` is how the worker will embed clips where it is not `backend.embed_clips`.
    """
    started = clock_s()
    frames_NTHWC, expected_ND = read_canaries(bundle_dir)
    min_cosine = _lowest_cosine(bundle_dir, backend, frames_NTHWC, expected_ND)
    seconds = clock_s() - started
    if seconds < _WARM_S:
        started = clock_s()
        (embed or backend.embed_clips)(frames_NTHWC)
        seconds = clock_s() - started
    return CanaryCheck(min_cosine=min_cosine, clips_per_s=NUM_CANARIES / seconds)


def _synthetic_clip(digest: np.ndarray, num_frames: int, size: int) -> np.ndarray:
    y, x = np.mgrid[0:size, 0:size]
    t = np.arange(num_frames).reshape(-1, 1, 1)
    frames = np.empty((num_frames, size, size, 3), np.uint8)
    for channel in range(3):
        a, b, c, d = digest[4 * channel : 4 * channel + 4]
        ramp = (a * x + b * y) // size + (c % 16) * t
        waves = ((x * (d % 7 + 1)) ^ (y * (a % 5 + 1))) * 64 // size
        frames[..., channel] = (ramp + waves) % 256
    side = max(size // 4, 1)
    for number in range(num_frames):
        left = (digest[12] * size // 256 + number * (digest[13] % 5 - 2) * size // 16) % size
        top = (digest[14] * size // 256 + number * (digest[15] % 5 - 2) * size // 16) % size
        frames[number, top : top + side, left : left + side] = digest[16:19].astype(np.uint8)
    return frames
