"""Run an exported encoder with ONNX Runtime, on CPU or CUDA.

N clips or queries, T frames, H W pixels, C channels, D clip vector, E text vector, L tokens.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from encoders.backends.base import (
    CLIP_LENGTH,
    FACTOR_GRAPH,
    FUSION_GRAPH,
    GPU_INSTALL,
    TEXT_GRAPH,
    VIDEO_GRAPH,
    BackendSettings,
    EncoderBackend,
    check_clip_frames,
    check_composes,
    exported_names,
    require_exported,
)
from encoders.backends.factor_graph import FACTOR_INPUTS, FACTOR_OUTPUTS, run_factors
from encoders.bundle.card import TOKENIZER, BundleCard, check_file, read_card
from encoders.bundle.checks import naming_file
from encoders.query_encoder.composition import FactorComposition

if TYPE_CHECKING:
    import onnx
    from torch import Tensor

    from encoders.query_encoder.text_encoder import Tokenizer

# EXHAUSTIVE, the default, would search again for every new batch size. Products run in TF32 where the GPU has it, and rows say so.
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": 1}
# Clips of one call on a CPU: with 8, what passes from layer to layer leaves the cores' caches, and a clip costs up to a fifth more.
_CPU_CLIPS = 2


def open_session(
    path: Path, *, device: str = "cpu", num_threads: int | None = None
) -> onnxruntime.InferenceSession:
    """A session on just the asked device; ValueError where ONNX Runtime would fall back to another."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; what matters is checked below
    if num_threads is not None:
        options.intra_op_num_threads = num_threads
        options.inter_op_num_threads = 1
        # Idle threads of one worker must not burn the cores of its neighbours.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    kind, _, number = device.partition(":")
    if kind == "cpu":
        with naming_file(path):
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    wanted = "CUDAExecutionProvider"
    available = onnxruntime.get_available_providers()
    if wanted not in available:
        raise ValueError(
            f"device is {device!r}, but this onnxruntime has only {available}; a machine with a GPU has onnxruntime-gpu in its place: "
            f"pip uninstall -y onnxruntime && {GPU_INSTALL}"
        )
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # finds the CUDA libraries that came with torch
    provider: tuple[str, dict[str, Any]] = (
        wanted,
        {"device_id": int(number or 0), **_CUDA_OPTIONS},
    )
    with naming_file(path):
        session = onnxruntime.InferenceSession(path, options, providers=[provider])
    if session.get_providers()[0] != wanted:
        raise ValueError(
            f"device is {device!r}, but ONNX Runtime fell back to {session.get_providers()}; see its CUDA and cuDNN needs"
        )
    return session


def session_precision(device: str) -> str:
    """What products of a float32 graph are computed in: `tf32` on a CUDA GPU of Ampere or later, `float32` elsewhere."""
    if device.partition(":")[0] == "cpu":
        return "float32"
    import torch  # only where there is a GPU

    return "tf32" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"


def read_graph(path: Path) -> "onnx.ModelProto":
    """A graph that holds all of its weights; BundleMismatchError where it names another file, which nobody has hashed."""
    import onnx

    with naming_file(path):
        model = onnx.load(path, load_external_data=False)
        for tensor in _tensors(model):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                raise ValueError(f"the weights {tensor.name!r} lie outside of the file")
    return model


def _tensors(message: Any) -> "Iterator[onnx.TensorProto]":
    """Every tensor of a graph, of its functions and of the graphs within its nodes."""
    import onnx

    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        for part in value if isinstance(value, Sequence) else [value]:
            if isinstance(part, onnx.TensorProto):
                yield part
            else:
                yield from _tensors(part)


class QueryGraphs:
    """The text graph with its tokenizer, and the fusion graph, of a folder. BundleMismatchError where one of them does not run."""

    def __init__(
        self,
        text: onnxruntime.InferenceSession,
        fusion: onnxruntime.InferenceSession,
        tokenizer: "Tokenizer",
        folder: Path,
    ) -> None:
        self._text, self._fusion, self._tokenizer, self._folder = text, fusion, tokenizer, folder

    def encode_texts(self, edit_texts: Sequence[str]) -> np.ndarray:
        """Edit texts -> text vectors [N, E]."""
        with naming_file(self._folder / TOKENIZER):
            tokens_NL, mask_NL = self._tokenizer.tokenize(edit_texts)
        inputs = {"input_ids": tokens_NL.numpy(), "attention_mask": mask_NL.numpy()}
        with naming_file(self._folder / TEXT_GRAPH):
            return _finite(self._text.run(["text_vector"], inputs)[0])

    def fuse(self, clip_vectors_ND: np.ndarray, text_vectors_NE: np.ndarray) -> np.ndarray:
        """Clip vectors, as the fusion reads them, and text vectors -> unit query vectors [N, D]."""
        inputs = {"clip_vector": clip_vectors_ND, "text_vector": text_vectors_NE}
        with naming_file(self._folder / FUSION_GRAPH):
            query_ND = _finite(self._fusion.run(["query_vector"], inputs)[0])
            if not query_ND.any(axis=1).all():
                raise ValueError("it gives a query vector of zeros")
            return query_ND


def _finite(values: Any) -> np.ndarray:
    values = np.asarray(values)
    if not np.isfinite(values).all():
        raise ValueError("it gives values that are not finite")
    return values


class OnnxBackend(EncoderBackend):
    """A bundle's exported graphs. Text and fusion open with the first query: indexing never needs them."""

    kind = "onnx"

    def __init__(self, settings: BackendSettings) -> None:
        self._settings = settings
        self.card: BundleCard = read_card(settings.bundle_dir)
        require_exported(self.card, settings.bundle_dir)
        self._video = self._open(VIDEO_GRAPH)
        self.precision = session_precision(settings.device)
        self._has_length = CLIP_LENGTH in [output.name for output in self._video.get_outputs()]
        self._queries: QueryGraphs | None = None
        self._factors: onnxruntime.InferenceSession | None = None
        self._opening = Lock()

    def embed_clips(self, frames_NTHWC: np.ndarray) -> np.ndarray:
        """uint8 frames -> unit clip vectors [N, D] float32."""
        return self.embed_clips_with_length(frames_NTHWC)[0]

    def embed_clips_with_length(self, frames_NTHWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 frames -> unit clip vectors [N, D] float32 and the lengths [N] that they had; 1 from an older graph."""
        check_clip_frames(self.card, frames_NTHWC)
        frames_NTHWC = np.ascontiguousarray(frames_NTHWC)
        step = _CPU_CLIPS if self._settings.device == "cpu" else len(frames_NTHWC)
        starts = range(0, max(len(frames_NTHWC), 1), step)
        names = ["clip_vector", CLIP_LENGTH] if self._has_length else ["clip_vector"]
        # Not naming the file: what fails here is memory, more often than the graph.
        parts = [self._video.run(names, {"frames": frames_NTHWC[i : i + step]}) for i in starts]
        vectors_ND = np.concatenate([np.asarray(part[0]) for part in parts])
        if not self._has_length:
            return vectors_ND, np.ones(len(vectors_ND), np.float32)
        return vectors_ND, np.concatenate([np.asarray(part[1]) for part in parts])

    def embed_tensor(self, frames_NTHWC: "Tensor") -> "Tensor":
        """uint8 frames on the session's device -> unit clip vectors [N, D] float32 there."""
        return self.embed_tensor_with_length(frames_NTHWC)[0]

    def embed_tensor_with_length(self, frames_NTHWC: "Tensor") -> "tuple[Tensor, Tensor]":
        """uint8 frames on the session's device -> unit clip vectors [N, D] float32 and their lengths [N] there."""
        import torch  # only with tensors

        check_clip_frames(self.card, frames_NTHWC)
        frames_NTHWC = frames_NTHWC.contiguous()
        num_clips = len(frames_NTHWC)
        shape = (num_clips, self.card.embedding_dim)
        vectors_ND = frames_NTHWC.new_empty(shape, dtype=torch.float32)
        length_N = frames_NTHWC.new_ones(num_clips, dtype=torch.float32)
        step = _CPU_CLIPS if self._settings.device == "cpu" else max(num_clips, 1)
        for first in range(0, num_clips, step):
            part = slice(first, first + step)
            self._run_bound(frames_NTHWC[part], vectors_ND[part], length_N[part])
        return vectors_ND, length_N

    def _run_bound(self, frames_NTHWC: "Tensor", vectors_ND: "Tensor", length_N: "Tensor") -> None:
        """From memory to memory of the device, without a copy."""
        import torch

        kind, number = frames_NTHWC.device.type, frames_NTHWC.device.index or 0
        if kind == "cuda":  # ONNX Runtime computes on a stream of its own
            torch.cuda.current_stream(frames_NTHWC.device).synchronize()
        binding = self._video.io_binding()
        bound = [
            (binding.bind_input, "frames", frames_NTHWC, np.uint8),
            (binding.bind_output, "clip_vector", vectors_ND, np.float32),
        ]
        if self._has_length:
            bound.append((binding.bind_output, CLIP_LENGTH, length_N, np.float32))
        for bind, name, tensor, dtype in bound:
            bind(name, kind, number, dtype, tuple(tensor.shape), tensor.data_ptr())
        self._video.run_with_iobinding(binding)

    def encode_texts(self, edit_texts: Sequence[str]) -> np.ndarray:
        """Edit texts -> text vectors [N, E] float32."""
        return self._open_queries().encode_texts(edit_texts)

    def fuse(self, clip_vectors_ND: np.ndarray, text_vectors_NE: np.ndarray) -> np.ndarray:
        """Clip vectors, as the fusion reads them, and text vectors -> unit query vectors [N, D] float32."""
        return self._open_queries().fuse(clip_vectors_ND, text_vectors_NE)

    def compose_factors(
        self, clip_vectors_ND: np.ndarray, text_vectors_NE: np.ndarray, given_NS: np.ndarray
    ) -> FactorComposition:
        """As `fuse`, with what was read of the clip and what is asked; `given_NS` replaces what is read."""
        if FACTOR_GRAPH not in exported_names(self.card):
            return super().compose_factors(clip_vectors_ND, text_vectors_NE, given_NS)
        with self._opening:
            if self._factors is None:
                self._factors = self._open(FACTOR_GRAPH)
        with naming_file(Path(self._settings.bundle_dir, FACTOR_GRAPH)):
            return run_factors(self._factors, clip_vectors_ND, text_vectors_NE, given_NS)

    def _open(self, name: str) -> onnxruntime.InferenceSession:
        path = check_file(self._settings.bundle_dir, self.card, name)
        read_graph(path)
        session = open_session(
            path, device=self._settings.device, num_threads=self._settings.num_threads
        )
        _check_signature(session, path, self.card)
        return session

    def _open_queries(self) -> QueryGraphs:
        check_composes(self.card)
        with self._opening:  # requests come from several threads; the graphs are opened once
            if self._queries is None:
                from encoders.query_encoder.text_encoder import tokenizer_from_json

                assert self.card.text is not None
                path = check_file(self._settings.bundle_dir, self.card, TOKENIZER)
                with naming_file(path):
                    tokenizer = tokenizer_from_json(path.read_text(), self.card.text)
                text, fusion = self._open(TEXT_GRAPH), self._open(FUSION_GRAPH)
                self._queries = QueryGraphs(text, fusion, tokenizer, path.parent)
            return self._queries


def _check_signature(session: onnxruntime.InferenceSession, path: Path, card: BundleCard) -> None:
    """BundleMismatchError for a graph whose inputs and output are not those of the card's encoder; None = a free length."""
    size = card.sampling.frame_size
    clip, tokens = ("float", (None, card.embedding_dim)), ("int64", (None, None))
    text = ("float", (None, None if card.fusion is None else card.fusion.text_dim))
    factors = () if card.fusion is None else card.fusion.factors
    slots = ("float", (None, sum(len(factor.values) for factor in factors)))
    asked = ("float", (None, len(factors)))
    frames = ("uint8", (None, card.sampling.num_frames, size, size, 3))
    expected = {
        VIDEO_GRAPH: {"frames": frames, "clip_vector": clip},
        TEXT_GRAPH: {"input_ids": tokens, "attention_mask": tokens, "text_vector": text},
        FUSION_GRAPH: {"clip_vector": clip, "text_vector": text, "query_vector": clip},
        FACTOR_GRAPH: {
            **dict(zip(FACTOR_INPUTS, (clip, text, slots), strict=True)),
            **dict(zip(FACTOR_OUTPUTS, (clip, slots, slots, asked), strict=True)),
        },
    }[path.name]
    nodes = {node.name: node for node in (*session.get_inputs(), *session.get_outputs())}
    if path.name == VIDEO_GRAPH and CLIP_LENGTH in nodes:  # graphs of older versions have none
        expected[CLIP_LENGTH] = ("float", (None,))
    with naming_file(path):
        if set(nodes) != set(expected):
            raise ValueError(
                f"it has the inputs and outputs {sorted(nodes)}, not {sorted(expected)}"
            )
        for name, (dtype, shape) in expected.items():
            node = nodes[name]
            is_same = len(node.shape) == len(shape) and all(
                not isinstance(have, int) if length is None else have == length
                for have, length in zip(node.shape, shape, strict=True)
            )
            if node.type != f"tensor({dtype})" or not is_same:
                raise ValueError(f"{name} is {node.type} {node.shape}; it must be {dtype} {shape}")
