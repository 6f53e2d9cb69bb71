"""Run a bundle's TensorRT engines: device memory is torch's, and a batch size that comes again runs as one CUDA graph.

N clips or queries, T frames, H W pixels, C channels, D clip vector, E text vector, L tokens.
"""

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from encoders.backends.base import (
    CLIP_LENGTH,
    FUSION_GRAPH,
    TEXT_GRAPH,
    VIDEO_GRAPH,
    BackendSettings,
    EncoderBackend,
    check_clip_frames,
    check_composes,
)
from encoders.backends.tensorrt_library import MODULES, import_library, local_target
from encoders.bundle.card import BundleCard, BundleMismatchError, read_card
from encoders.bundle.engine_records import (
    PRECISION_NAMES,
    EngineRecord,
    choose_engine,
    find_engines,
)
from encoders.files import hash_file
from encoders.query_encoder.text_encoder import Tokenizer, tokenizer_from_json

logger = logging.getLogger(__name__)

_MAX_CUDA_GRAPHS = 4
_DTYPES = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "UINT8": torch.uint8,
}


@dataclass(slots=True)
class _Shape:
    """One set of input shapes: its context (a captured graph keeps what the context holds), its buffers, its graph."""

    context: Any
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    num_runs: int = 0
    graph: torch.cuda.CUDAGraph | None = field(default=None, repr=False)


class Engine:
    """One deserialised engine with its own stream."""

    def __init__(self, library: Any, plan: bytes, *, device: str) -> None:
        self._device = torch.device(device)
        self._logger = library.Logger(library.Logger.ERROR)
        with torch.cuda.device(self._device):
            self._runtime = library.Runtime(self._logger)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is None:
                raise ValueError("TensorRT can't read this engine; build it again on this machine")
            self._stream = torch.cuda.Stream(self._device)
        self._library = library
        # TensorRT for RTX first runs fallback kernels while it compiles better ones: a graph of ours would hold the first for ever.
        self._runtime_config = _rtx_runtime_config(library, self._engine)
        self._lock = Lock()
        self.capture_error: str | None = None
        """Why it runs without CUDA graphs; None = it need not."""
        self._scratch: Tensor | None = None
        names = [self._engine.get_tensor_name(n) for n in range(self._engine.num_io_tensors)]
        is_input = [
            self._engine.get_tensor_mode(name) == library.TensorIOMode.INPUT for name in names
        ]
        self._inputs = [name for name, yes in zip(names, is_input, strict=True) if yes]
        self._outputs = [name for name, yes in zip(names, is_input, strict=True) if not yes]
        self._shapes: OrderedDict[tuple[tuple[int, ...], ...], _Shape] = OrderedDict()

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Host or device tensors in, new device tensors out by name; done when the caller's stream gets there."""
        with self._lock, torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                shape = self._prepare(inputs)
                for name in self._inputs:
                    shape.inputs[name].copy_(inputs[name], non_blocking=True)
                self._execute(shape)
                outputs = {name: output.clone() for name, output in shape.outputs.items()}
            torch.cuda.current_stream().wait_stream(self._stream)
            for output in outputs.values():
                output.record_stream(torch.cuda.current_stream())
        return outputs

    def _prepare(self, inputs: Mapping[str, Tensor]) -> _Shape:
        """The buffers of these shapes; the least recently used are let go."""
        key = tuple(tuple(inputs[name].shape) for name in self._inputs)
        known = self._shapes.get(key)
        if known is not None:
            self._shapes.move_to_end(key)
            return known
        context = self._new_context()
        for name, dims in zip(self._inputs, key, strict=True):
            if not context.set_input_shape(name, dims):
                raise ValueError(f"input {name!r} of shape {dims} is outside the engine's profile")
        self._share_scratch(context)
        made = _Shape(
            context=context,
            inputs={
                name: torch.empty(dims, dtype=self._dtype(name), device=self._device)
                for name, dims in zip(self._inputs, key, strict=True)
            },
            outputs={
                name: torch.empty(
                    tuple(context.get_tensor_shape(name)),
                    dtype=self._dtype(name),
                    device=self._device,
                )
                for name in self._outputs
            },
        )
        self._shapes[key] = made
        if len(self._shapes) > _MAX_CUDA_GRAPHS:
            self._stream.synchronize()  # a context and its buffers must outlive their work
            self._shapes.popitem(last=False)
        return made

    def _new_context(self) -> Any:
        """A context without scratch memory of its own; torch.OutOfMemoryError where the device has none left for it."""
        if self._runtime_config is not None:
            context = self._engine.create_execution_context(self._runtime_config)
        else:
            strategy = self._library.ExecutionContextAllocationStrategy.USER_MANAGED
            context = self._engine.create_execution_context(strategy)
        if context is None:
            raise torch.OutOfMemoryError(
                "out of memory: TensorRT could not make an execution context"
            )
        return context

    def _share_scratch(self, context: Any) -> None:
        """One scratch for all contexts, of what the largest shape so far needs: they run one after the other, on one stream.

        A context keeps its address, and a captured graph too, so a scratch that grows leaves the shapes before it behind.
        """
        needed = int(context.update_device_memory_size_for_shapes())
        if self._scratch is None or len(self._scratch) < needed:
            self._stream.synchronize()
            self._shapes.clear()
            self._scratch = torch.empty(max(needed, 1), dtype=torch.uint8, device=self._device)
        context.device_memory = self._scratch.data_ptr()

    def _execute(self, shape: _Shape) -> None:
        if shape.graph is not None:
            shape.graph.replay()
            return
        shape.num_runs += 1
        self._enqueue(shape)
        # A size that comes twice comes again.
        if shape.num_runs == 2 and self.capture_error is None and self._runtime_config is None:
            self._capture(shape)

    def _capture(self, shape: _Shape) -> None:
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            # thread_local: what other threads do on the GPU meanwhile must not spoil the capture.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._enqueue(shape)
        except RuntimeError as error:
            self.capture_error = str(error)
            logger.warning("this engine runs without CUDA graphs: %s", error)
        else:
            shape.graph = graph

    def _enqueue(self, shape: _Shape) -> None:
        for name, tensor in (*shape.inputs.items(), *shape.outputs.items()):
            shape.context.set_tensor_address(name, tensor.data_ptr())
        if not shape.context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise RuntimeError("TensorRT could not start the engine")

    def _dtype(self, name: str) -> torch.dtype:
        return _DTYPES[self._engine.get_tensor_dtype(name).name]


def _rtx_runtime_config(library: Any, engine: Any) -> Any:
    """How TensorRT for RTX captures graphs and specialises kernels by itself; None for TensorRT, which does neither."""
    if not hasattr(library, "CudaGraphStrategy"):
        return None
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(
        library.ExecutionContextAllocationStrategy.USER_MANAGED
    )
    config.cuda_graph_strategy = library.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    config.dynamic_shapes_kernel_specialization_strategy = (
        library.DynamicShapesKernelSpecializationStrategy.EAGER
    )
    return config


class EngineEncoder(EncoderBackend):
    """The engines of one record as an encoder; larger batches than the engine's go through in parts."""

    kind = "tensorrt"

    def __init__(
        self,
        bundle_dir: Path,
        card: BundleCard,
        record: EngineRecord,
        plans: Mapping[str, bytes],
        *,
        device: str,
    ) -> None:
        library = import_library(record.target.library)
        self.card, self._record, self._device = card, record, device
        self.precision = PRECISION_NAMES[record.precision]
        self._engines = {name: Engine(library, plan, device=device) for name, plan in plans.items()}
        self._tokenizer: Tokenizer | None = None
        if card.text is not None:
            self._tokenizer = tokenizer_from_json(
                (bundle_dir / "tokenizer.json").read_text(), card.text
            )

    @property
    def capture_errors(self) -> list[str]:
        """Why engines run without CUDA graphs; empty = none does."""
        return [engine.capture_error for engine in self._engines.values() if engine.capture_error]

    def embed_tensor(self, frames_NTHWC: Tensor) -> Tensor:
        """uint8 frames, on the device or not -> unit clip vectors [N, D] float32 on the device."""
        return self.embed_tensor_with_length(frames_NTHWC)[0]

    def embed_tensor_with_length(self, frames_NTHWC: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 frames, on the device or not -> unit clip vectors [N, D] float32 and their lengths [N] on the device."""
        check_clip_frames(self.card, frames_NTHWC)
        engine = self._engines[VIDEO_GRAPH]
        parts = [
            engine.run({"frames": part}) for part in frames_NTHWC.split(self._record.max_batch_size)
        ]
        unit_ND = torch.cat([part["clip_vector"] for part in parts])
        if CLIP_LENGTH not in parts[0]:  # an engine of an older graph
            return unit_ND, unit_ND.new_ones(len(unit_ND))
        return unit_ND, torch.cat([part[CLIP_LENGTH] for part in parts])

    def embed_clips(self, frames_NTHWC: np.ndarray) -> np.ndarray:
        """uint8 frames -> unit clip vectors [N, D] float32."""
        return self.embed_clips_with_length(frames_NTHWC)[0]

    def embed_clips_with_length(self, frames_NTHWC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 frames -> unit clip vectors [N, D] float32 and the lengths [N] that they had."""
        frames = torch.from_numpy(np.require(frames_NTHWC, requirements=["C", "W"]))
        unit_ND, length_N = self.embed_tensor_with_length(frames)
        return unit_ND.cpu().numpy(), length_N.cpu().numpy()

    def encode_texts(self, edit_texts: Sequence[str]) -> np.ndarray:
        """Edit texts -> text vectors [N, E] float32."""
        check_composes(self.card)
        assert self._tokenizer is not None
        tokens_NL, mask_NL = self._tokenizer.tokenize(edit_texts)
        return self._run_in_parts(
            TEXT_GRAPH, {"input_ids": tokens_NL, "attention_mask": mask_NL}, len(tokens_NL)
        )

    def fuse(self, clip_vectors_ND: np.ndarray, text_vectors_NE: np.ndarray) -> np.ndarray:
        """Clip vectors, as the fusion reads them, and text vectors -> unit query vectors [N, D] float32."""
        check_composes(self.card)
        inputs = {
            "clip_vector": torch.tensor(clip_vectors_ND),
            "text_vector": torch.tensor(text_vectors_NE),
        }
        return self._run_in_parts(FUSION_GRAPH, inputs, len(clip_vectors_ND))

    def _run_in_parts(
        self, graph: str, inputs: Mapping[str, Tensor], num_queries: int
    ) -> np.ndarray:
        size = self._record.max_batch_size
        parts = [
            next(iter(self._engines[graph].run(part).values()))
            for part in (
                {name: it[n : n + size] for name, it in inputs.items()}
                for n in range(0, num_queries, size)
            )
        ]
        return torch.cat(parts).cpu().numpy()


class TensorrtBackend(EngineEncoder):
    """The bundle's engine for the GPU of this machine; refused where its drift was not run or is too large."""

    def __init__(self, settings: BackendSettings) -> None:
        if settings.device == "cpu":
            raise ValueError("device is 'cpu'; TensorRT engines run on 'cuda' or 'cuda:N'")
        card = read_card(settings.bundle_dir)
        record = find_record(card, settings.bundle_dir, device=settings.device)
        plans = read_plans(settings.bundle_dir, record)
        super().__init__(settings.bundle_dir, card, record, plans, device=settings.device)


def has_engine(card: BundleCard, *, device: str) -> bool:
    """Whether the card lists an engine for this GPU that was run; one with too much drift is an error where it is opened."""
    return any(engine.drift is not None for engine in _fitting(card, device)[0])


def find_record(card: BundleCard, bundle_dir: Path, *, device: str) -> EngineRecord:
    """The engine to run here; BundleMismatchError says what the bundle has instead, DriftError what its drift is."""
    engines, missing = _fitting(card, device)
    if not engines:
        held = "; ".join(engine.line() for engine in card.engines) or "none"
        raise BundleMismatchError(
            f"{bundle_dir} has no engine for this GPU and library version (it has: {held}); build one with: "
            f"tfcovr export --backend tensorrt --bundle {bundle_dir}{''.join(f' [{reason}]' for reason in missing)}"
        )
    return choose_engine(engines, what=str(bundle_dir))


def _fitting(card: BundleCard, device: str) -> tuple[list[EngineRecord], list[str]]:
    """Engines for this machine, and the libraries that are not installed."""
    engines: list[EngineRecord] = []
    missing: list[str] = []
    for library in MODULES:
        try:
            engines += find_engines(card.engines, local_target(library, device=device), card.files)
        except ImportError as error:
            missing.append(str(error))
    return engines, missing


def read_plans(bundle_dir: Path, record: EngineRecord) -> dict[str, bytes]:
    """Graph file -> engine bytes; BundleMismatchError for a file that is not the one that was measured."""
    plans = {}
    for graph, (name, sha256) in zip(record.graphs, record.files.items(), strict=True):
        path = bundle_dir / name
        if not path.is_file() or hash_file(path) != sha256:
            raise BundleMismatchError(f"{path} is missing or was changed; build the engine again")
        plans[graph] = path.read_bytes()
    return plans
