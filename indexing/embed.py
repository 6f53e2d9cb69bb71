"""Frames to vectors by a worker that has first proved, on the bundle's canaries, that it is the encoder it says."""

from pathlib import Path

import numpy as np

from encoders.canaries import check_canaries
from encoders.stages import EmbedStage


class CheckedEmbedStage(EmbedStage):
    """EmbedStage that refuses to start when the canaries do not come back as their vectors.

    Adds the column `canary_min_cosine`.
    """

    def __init__(
        self, *, bundle_dir: str, backend: str = "onnx", device: str = "cpu", num_threads: int = 1
    ) -> None:
        super().__init__(
            bundle_dir=bundle_dir, backend=backend, device=device, num_threads=num_threads
        )
        self._canary_min_cosine = check_canaries(Path(bundle_dir), self._backend)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        batch = super().__call__(batch)
        batch["canary_min_cosine"] = np.full(len(batch["clip_id"]), self._canary_min_cosine)
        return batch
