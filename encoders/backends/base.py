"""The interface of encoder backends: frames and texts in, unit vectors out.

N clips or queries, T frames, H W pixels, C channels, D clip vector, E text vector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from encoders.bundle.card import BundleCard, BundleMismatchError
from encoders.query_encoder.composition import FactorComposition

if TYPE_CHECKING:
    from torch import Tensor


VIDEO_GRAPH = "video.onnx"
TEXT_GRAPH = "text.onnx"
FUSION_GRAPH = "fusion.onnx"
FACTOR_GRAPH = "factors.onnx"
GPU_INSTALL = "pip install -c constraints-gpu.txt -e '.[gpu]'"
"""What a machine with a GPU types; `tfcovr doctor` shows it too."""
BackendKind = Literal["torch", "compiled", "onnx", "tensorrt"]
"""What an open backend is; `open_backend` also takes `auto`, resolved where the encoder runs."""


CLIP_LENGTH = "clip_length"
"""Output of an exported video graph beside `clip_vector`; graphs of older bundles do not have it."""


class EncoderBackend(Protocol):
    """A loaded encoder, ready to run."""

    card: BundleCard
    kind: str
    precision: str
    """What products are computed in, and what a row says of its vector: `float32`, `tf32`, `float16` or `bfloat16`."""

    def embed_clips(self, frames_NTHWC: np.ndarray) -> np.ndarray:
        """uint8 frames -> unit clip vectors [N, D] float32."""
        ...

    def embed_clips_with_length(self, frames_NTHWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As embed_clips, and the lengths [N] that the vectors had before; 1 where an older graph does not tell them."""
        return self.embed_clips(frames_NTHWC), np.ones(len(frames_NTHWC), np.float32)

    def embed_tensor(self, frames_NTHWC: "Tensor") -> "Tensor":
        """uint8 frames on the backend's device -> unit clip vectors [N, D] float32 there, nothing through the host's memory."""
        ...

    def embed_tensor_with_length(self, frames_NTHWC: "Tensor") -> "tuple[Tensor, Tensor]":
        """As embed_tensor, and the lengths [N]."""
        ...

    def encode_texts(self, edit_texts: Sequence[str]) -> np.ndarray:
        """Edit texts -> text vectors [N, E] float32; ValueError where the bundle has no fusion."""
        ...

    def fuse(self, clip_vectors_ND: np.ndarray, text_vectors_NE: np.ndarray) -> np.ndarray:
        """Clip vectors, as the card's fusion reads them, and text vectors, both float32 -> unit query vectors [N, D] float32."""
        ...

    def compose_factors(
        self, clip_vectors_ND: np.ndarray, text_vectors_NE: np.ndarray, given_NS: np.ndarray
    ) -> FactorComposition:
        """As `fuse`, with what was read of the clip and what is asked; `given_NS` replaces what is read. ValueError without factors."""
        check_composes(self.card)
        raise ValueError(f"backend {self.kind!r} of this bundle tells no factors")

    def embed_queries(self, clip_vectors_ND: np.ndarray, edit_texts: Sequence[str]) -> np.ndarray:
        """Clip vectors, as the card's fusion reads them, and edit texts -> unit query vectors [N, D] float32."""
        vectors_ND = check_queries(self.card, clip_vectors_ND, edit_texts)
        return self.fuse(vectors_ND, self.encode_texts(edit_texts))


@dataclass(frozen=True, kw_only=True, slots=True)
class BackendSettings:
    """Where a backend runs."""

    bundle_dir: Path
    device: str = "cpu"
    """Device that the encoder runs on: `cpu`, `cuda` or `cuda:N`."""
    num_threads: int | None = None
    """CPU threads; None = what the backend's library takes by itself."""

    def __post_init__(self) -> None:
        kind, _, number = self.device.partition(":")
        if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
            raise ValueError(f"device is {self.device!r}; choose 'cpu', 'cuda' or 'cuda:N'")
        if self.num_threads is not None and self.num_threads < 1:
            raise ValueError(f"num_threads is {self.num_threads}; it must be None or at least 1")


def embed_with_length(backend: Any, frames_NTHWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit clip vectors [N, D] and their lengths [N]; 1 of a backend that makes unit vectors alone."""
    if not hasattr(backend, "embed_clips_with_length"):
        return backend.embed_clips(frames_NTHWC), np.ones(len(frames_NTHWC), np.float32)
    return backend.embed_clips_with_length(frames_NTHWC)


def check_clip_frames(card: BundleCard, frames_NTHWC: "np.ndarray | Tensor") -> None:
    """ValueError for frames that the card's encoder was not made for."""
    size = card.sampling.frame_size
    wanted = (card.sampling.num_frames, size, size, 3)
    dtype = str(frames_NTHWC.dtype).removeprefix("torch.")
    if dtype != "uint8" or tuple(frames_NTHWC.shape[1:]) != wanted:
        raise ValueError(
            f"frames are {dtype} {tuple(frames_NTHWC.shape)}; encoder {card.encoder_id} takes uint8 [N, {', '.join(map(str, wanted))}]"
        )


def graph_names(card: BundleCard) -> tuple[str, ...]:
    """The ONNX files of a card's encoder, each of which an engine can replace."""
    return (VIDEO_GRAPH,) if card.fusion is None else (VIDEO_GRAPH, TEXT_GRAPH, FUSION_GRAPH)


def exported_names(card: BundleCard) -> tuple[str, ...]:
    """The ONNX files of a bundle: `graph_names`, and with factors the graph that tells them, which no engine is built of."""
    has_factors = card.fusion is not None and card.fusion.factors
    return (*graph_names(card), FACTOR_GRAPH) if has_factors else graph_names(card)


def require_exported(card: BundleCard, bundle_dir: Path) -> None:
    """BundleMismatchError names the graphs that a bundle lacks, and the command that writes them."""
    missing = [name for name in exported_names(card) if name not in card.files]
    if missing:
        raise BundleMismatchError(
            f"{bundle_dir} has no {' and no '.join(missing)}; write what is missing with: tfcovr export --bundle {bundle_dir}"
        )


def check_composes(card: BundleCard) -> None:
    """ValueError for a bundle without text encoder and fusion."""
    if card.fusion is None:
        raise ValueError(
            f"bundle {card.bundle_id} has no text encoder and fusion, so that it finds clips like a clip and knows no words; train stage 2 "
            "(tfcovr build VIDEOS --labels labels.csv --out ARCHIVE), or take a CLIP-like model (tfcovr build VIDEOS --encoder "
            "openai/clip-vit-base-patch16 --out ARCHIVE)"
        )


def check_queries(
    card: BundleCard, clip_vectors_ND: np.ndarray, edit_texts: Sequence[str]
) -> np.ndarray:
    """The clip vectors as float32; ValueError where they do not fit the card or the texts."""
    check_composes(card)
    wanted = (len(edit_texts), card.embedding_dim)
    if clip_vectors_ND.shape != wanted:
        raise ValueError(
            f"clip vectors have shape {clip_vectors_ND.shape}; {len(edit_texts)} texts of this bundle need {wanted}"
        )
    return np.ascontiguousarray(clip_vectors_ND, dtype=np.float32)
