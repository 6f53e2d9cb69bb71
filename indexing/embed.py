"""Frames to vectors by a worker that has first proved, on the bundle's canaries, that it is the encoder it says."""

import time
from pathlib import Path

import numpy as np

from encoders.canaries import WARM_S, check_canaries, draw_canaries
from encoders.stages import EmbedStage


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
        # Other workers start on the same cores meanwhile.
        clock_s = time.process_time if device == "cpu" and num_threads == 1 else time.perf_counter
        started = clock_s()
        self._canary_min_cosine = check_canaries(Path(bundle_dir), self._backend)
        seconds = clock_s() - started
        frames_NTHWC = draw_canaries(self._backend.card.sampling)
        if seconds < WARM_S:
            started = clock_s()
            self._backend.embed_clips(frames_NTHWC)
            seconds = clock_s() - started
        self._ceiling_per_s = len(frames_NTHWC) / seconds

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        batch = super().__call__(batch)
        batch["canary_min_cosine"] = np.full(len(batch["clip_id"]), self._canary_min_cosine)
        batch["embed_ceiling_per_s"] = np.full(len(batch["clip_id"]), self._ceiling_per_s)
        return batch
