"""Run an encoder with torch: the reference that other backends are measured by.

N clips or queries, T frames, H W pixels, C channels, D clip vector, E text vector.
"""

from collections.abc import Sequence

import numpy as np
import torch

from encoders.backends.base import (
    BackendSettings,
    EncoderBackend,
    check_clip_frames,
    check_composes,
)
from encoders.bundle.folder import Bundle, load_bundle
from encoders.query_encoder.composition import FactorComposition
from encoders.query_encoder.factored import FactoredFusion


class TorchBackend(EncoderBackend):
    """A bundle's weights in torch, float32."""

    kind = "torch"
    precision = "float32"

    def __init__(self, settings: BackendSettings) -> None:
        if settings.device != "cpu" and not torch.cuda.is_available():
            raise ValueError(f"device is {settings.device!r}, but torch sees no CUDA device")
        if settings.num_threads is not None:
            torch.set_num_threads(settings.num_threads)  # torch has one setting per process
        self._device = torch.device(settings.device)
        self._bundle = load_bundle(settings.bundle_dir, device=self._device)
        self.card = self._bundle.card

    @property
    def bundle(self) -> Bundle:
        """The loaded parts."""
        return self._bundle

    def embed_clips(self, frames_NTHWC: np.ndarray) -> np.ndarray:
        """uint8 frames -> unit clip vectors [N, D] float32."""
        return self.embed_clips_with_length(frames_NTHWC)[0]

    def embed_clips_with_length(self, frames_NTHWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 frames -> unit clip vectors [N, D] float32 and the lengths [N] that they had."""
        frames = np.ascontiguousarray(frames_NTHWC)
        if not frames.flags.writeable:
            frames = frames.copy()  # torch takes no read-only memory
        on_device = torch.from_numpy(frames).to(self._device)
        unit_ND, length_N = self.embed_tensor_with_length(on_device)
        return unit_ND.cpu().numpy(), length_N.cpu().numpy()

    def embed_tensor(self, frames_NTHWC: torch.Tensor) -> torch.Tensor:
        """uint8 frames on the device -> unit clip vectors [N, D] float32 there."""
        return self.embed_tensor_with_length(frames_NTHWC)[0]

    @torch.inference_mode()
    def embed_tensor_with_length(
        self, frames_NTHWC: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 frames on the device -> unit clip vectors [N, D] float32 and their lengths [N] there."""
        check_clip_frames(self.card, frames_NTHWC)
        return self._bundle.video.with_length(frames_NTHWC)

    @torch.inference_mode()
    def encode_texts(self, edit_texts: Sequence[str]) -> np.ndarray:
        """Edit texts -> text vectors [N, E] float32."""
        check_composes(self.card)
        assert self._bundle.text is not None
        return self._bundle.text.encode(edit_texts).cpu().numpy()

    @torch.inference_mode()
    def fuse(self, clip_vectors_ND: np.ndarray, text_vectors_NE: np.ndarray) -> np.ndarray:
        """Clip vectors, as the fusion reads them, and text vectors -> unit query vectors [N, D] float32."""
        check_composes(self.card)
        assert self._bundle.fusion is not None
        # tensor() copies: torch takes no read-only memory.
        clips_ND, texts_NE = (
            torch.tensor(part, device=self._device) for part in (clip_vectors_ND, text_vectors_NE)
        )
        return self._bundle.fusion(clips_ND, texts_NE).cpu().numpy()

    @torch.inference_mode()
    def compose_factors(
        self, clip_vectors_ND: np.ndarray, text_vectors_NE: np.ndarray, given_NS: np.ndarray
    ) -> FactorComposition:
        """As `fuse`, with what was read of the clip and what is asked; `given_NS` replaces what is read."""
        fusion = self._bundle.fusion
        if not isinstance(fusion, FactoredFusion):
            return super().compose_factors(clip_vectors_ND, text_vectors_NE, given_NS)
        parts = (
            torch.tensor(part, device=self._device)
            for part in (clip_vectors_ND, text_vectors_NE, given_NS)
        )
        return FactorComposition(*(part.cpu().numpy() for part in fusion.compose(*parts)))
