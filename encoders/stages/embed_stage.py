"""Embed stage: batches of rows with frames to batches with unit clip vectors."""

import time
from pathlib import Path

import numpy as np

from encoders.bundle.canaries import check_encoder, worker_clock
from encoders.stages.base import error_of


class EmbedStage:
    """Frames in, unit vectors out. One instance per worker, so that weights load once.

    Takes the column `frames` (uint8 [N, T, S, S, 3]) away and adds `embedding` (float32 [N, D], zeros for a row with an error),
    `vector_length` (that it had before), `embed_backend`, `embed_precision` and `embed_busy_s` (the batch's time, shared evenly by
    its clips).
    """

    def __init__(
        self, *, bundle_dir: str, backend: str = "onnx", device: str = "cpu", num_threads: int = 1
    ) -> None:
        from encoders.backends.base import embed_with_length
        from encoders.backends.registry import open_backend

        self._embed = embed_with_length
        self._backend = open_backend(
            Path(bundle_dir), backend, device=device, num_threads=num_threads
        )
        card = self._backend.card
        if card.sampling.frame_size is None:
            raise ValueError(f"{bundle_dir}: frame_size is None; a stage needs clips of one size")
        self._embedding_dim = card.embedding_dim

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        started = time.perf_counter()
        frames_NTHWC = batch.pop("frames")
        num_clips = len(frames_NTHWC)
        embedding_ND = np.zeros((num_clips, self._embedding_dim), np.float32)
        length_N = np.zeros(num_clips, np.float32)
        is_ok = np.array([error_of(error) is None for error in batch["error"]], bool)
        if is_ok.any():
            embedding_ND[is_ok], length_N[is_ok] = self._embed(
                self._backend, frames_NTHWC if is_ok.all() else frames_NTHWC[is_ok]
            )
        batch["embedding"] = embedding_ND
        batch["vector_length"] = length_N
        batch["embed_backend"] = np.array([self._backend.kind] * num_clips)
        batch["embed_precision"] = np.array([self._backend.precision] * num_clips)
        busy_s = (time.perf_counter() - started) / max(num_clips, 1)
        batch["embed_busy_s"] = np.full(num_clips, busy_s)
        return batch


class CheckedEmbedStage(EmbedStage):
    """EmbedStage that refuses to start when the canaries do not come back as their vectors.

    Adds `canary_min_cosine`, and `embed_ceiling_per_s`: clips per second of this worker on the canaries, with a core (or its
    GPU) to itself.
    """

    def __init__(
        self, *, bundle_dir: str, backend: str = "onnx", device: str = "cpu", num_threads: int = 1
    ) -> None:
        super().__init__(
            bundle_dir=bundle_dir, backend=backend, device=device, num_threads=num_threads
        )
        check = check_encoder(bundle_dir, self._backend, clock_s=worker_clock(device, num_threads))
        self._min_cosine, self._clips_per_s = check.min_cosine, check.clips_per_s

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        batch = super().__call__(batch)
        batch["canary_min_cosine"] = np.full(len(batch["clip_id"]), self._min_cosine)
        batch["embed_ceiling_per_s"] = np.full(len(batch["clip_id"]), self._clips_per_s)
        return batch
