"""Frames to vectors by a worker that has first proved, on the bundle's canaries, that it is the encoder it says."""

import numpy as np

from encoders.bundle.canaries import prove_encoder, worker_clock
from encoders.stages.embed_stage import EmbedStage


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
        proof = prove_encoder(bundle_dir, self._backend, clock_s=worker_clock(device, num_threads))
        self._min_cosine, self._clips_per_s = proof.min_cosine, proof.clips_per_s

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        batch = super().__call__(batch)
        batch["canary_min_cosine"] = np.full(len(batch["clip_id"]), self._min_cosine)
        batch["embed_ceiling_per_s"] = np.full(len(batch["clip_id"]), self._clips_per_s)
        return batch
