"""ONNX export of a bundle: checked against torch clip by clip, and added only if both agree.

`video.onnx`: frames uint8 [N, T, H, W, 3] -> clip_vector [N, D], unit length, and clip_length [N], which the vector had before.
`text.onnx`: input_ids and attention_mask int64 [N, L] -> text_vector [N, E].
`fusion.onnx`: clip_vector [N, D], text_vector [N, E] -> query_vector [N, D], unit length.
`factors.onnx`, of a fusion with factors: see `encoders.backends.factor_graph`.
N and L are free. Text and fusion are two graphs, so that a text is encoded once for any number of clips.
N clips, T frames, H W pixels, D clip vector, E text vector, L tokens.
"""

import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.backends.base import (
    CLIP_LENGTH,
    FACTOR_GRAPH,
    FUSION_GRAPH,
    TEXT_GRAPH,
    VIDEO_GRAPH,
    BackendSettings,
    exported_names,
)
from encoders.backends.factor_graph import FACTOR_INPUTS, FACTOR_OUTPUTS
from encoders.backends.onnx_backend import QueryGraphs, open_session
from encoders.backends.torch_backend import TorchBackend
from encoders.bundle.canaries import CANARY_FILE, make_canaries, synthetic_clips, write_canaries
from encoders.bundle.card import (
    BundleCard,
    OnnxReport,
    check_file,
    read_card,
    with_bundle_id,
    write_card,
)
from encoders.bundle.folder import Bundle
from encoders.clips import read_clips
from encoders.decoding.isolated import iter_clip_frames
from encoders.export.config import ExportConfig
from encoders.export.parity import ParityReport, compare_backends, sample_edit_texts
from encoders.files import hash_file
from encoders.media.sampling import SamplingConfig
from encoders.query_encoder.factored import FactoredFusion
from encoders.query_encoder.fusion import Fusion
from encoders.query_encoder.text_encoder import TextEncoder, Tokenizer
from encoders.video_encoder.base import VideoEncoder

_OUTPUTS = {
    VIDEO_GRAPH: ("clip_vector", CLIP_LENGTH),
    TEXT_GRAPH: ("text_vector",),
    FUSION_GRAPH: ("query_vector",),
    FACTOR_GRAPH: FACTOR_OUTPUTS,
}
# Of bundles that were exported before: text and fusion in one graph.
_OLD_GRAPH = "query.onnx"


class ExportError(ValueError):
    """The exported graphs do not give torch's vectors; nothing was added to the bundle."""


def export_onnx(config: ExportConfig, *, frames_NTHWC: np.ndarray | None = None) -> OnnxReport:
    """Export, check, add. `frames_NTHWC` (the caller's own clips) goes before `config.clips`.

    A bundle that has its files already keeps them, unless `again`.
    """
    folder = config.bundle
    card = read_card(folder)
    if card.onnx is not None and set(exported_names(card)) <= set(card.files) and not config.again:
        for name in card.files:
            check_file(folder, card, name)
        return card.onnx
    frames_NTHWC, clips_from = _frames_to_check(config, card.sampling, frames_NTHWC)
    temporary = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}.onnx")
    temporary.mkdir()
    try:
        reference = TorchBackend(BackendSettings(bundle_dir=folder))
        write_graphs(reference.bundle, temporary)
        text = reference.bundle.text
        tokenizer = None if text is None else text.tokenizer
        texts = sample_edit_texts(len(frames_NTHWC)) if tokenizer is not None else ()
        candidate = _Graphs(temporary, tokenizer)
        parity = compare_backends(reference, candidate, frames_NTHWC, edit_texts=texts)
        if not parity.min_cosine >= config.min_cosine:
            raise ExportError(
                f"{folder}: lowest cosine between ONNX Runtime and torch is {parity.min_cosine:.7f} over {parity.num_clips} clips; "
                f"at least {config.min_cosine} is needed, so nothing was added"
            )
        canaries = make_canaries(card.sampling)
        record = write_canaries(temporary / CANARY_FILE, canaries, reference.embed_clips(canaries))
        report = _describe(parity, clips_from, temporary)
        _add_files(folder, temporary, replace(card, onnx=report, canaries=record))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return report


def write_graphs(bundle: Bundle, folder: Path) -> None:
    """The graphs of `exported_names`; no external data files."""
    sampling, clips = bundle.card.sampling, torch.export.Dim("clips", min=1)
    frames = torch.from_numpy(synthetic_clips(sampling, 2, name="export"))
    video = {"frames": frames}
    _write_graph(_Unit(bundle.video), video, {"frames": {0: clips}}, folder / VIDEO_GRAPH)
    if bundle.text is None or bundle.fusion is None:
        return
    config, texts = bundle.text.config, torch.export.Dim("texts", min=1)
    counts = config.num_count_columns
    tokens = torch.export.Dim("tokens", min=counts + 1, max=counts + config.max_tokens)
    tokens_NL, mask_NL = bundle.text.tokenizer.tokenize(sample_edit_texts(4)[2:])
    read = {"input_ids": tokens_NL, "attention_mask": mask_NL}
    free = {name: {0: texts, 1: tokens} for name in read}
    _write_graph(_Text(bundle.text), read, free, folder / TEXT_GRAPH)
    write_fusion(bundle.fusion, folder / FUSION_GRAPH)
    if isinstance(bundle.fusion, FactoredFusion) and bundle.fusion.sizes:
        write_factors(bundle.fusion, folder / FACTOR_GRAPH)


def write_fusion(fusion: Fusion, path: Path) -> None:
    """The graph of any fusion: (clip_vector [N, D], text_vector [N, E]) -> query_vector [N, D]."""
    widths = {"clip_vector": fusion.config.video_dim, "text_vector": fusion.config.text_dim}
    unit = {name: F.normalize(torch.ones(2, width), dim=-1) for name, width in widths.items()}
    queries = torch.export.Dim("queries", min=1)
    _write_graph(_Fusion(fusion), unit, {name: {0: queries} for name in unit}, path)


def write_factors(fusion: FactoredFusion, path: Path) -> None:
    """The graph that also tells the factors: see `encoders.backends.factor_graph`."""
    widths = (fusion.config.video_dim, fusion.config.text_dim, sum(fusion.sizes))
    queries = torch.export.Dim("queries", min=1)
    inputs = {
        name: F.normalize(torch.ones(2, width), dim=-1)
        for name, width in zip(FACTOR_INPUTS, widths, strict=True)
    }
    _write_graph(_Factors(fusion), inputs, {name: {0: queries} for name in inputs}, path)


class _Unit(nn.Module):
    """Frames to unit vectors and their lengths, with the graph's names."""

    def __init__(self, video: VideoEncoder) -> None:
        super().__init__()
        self.video = video

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        return self.video.with_length(frames)


class _Text(nn.Module):
    """Tokens to text vectors, with the graph's names."""

    def __init__(self, text: TextEncoder) -> None:
        super().__init__()
        self.text = text

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.text(input_ids, attention_mask)


class _Fusion(nn.Module):
    """Clip vectors and text vectors to unit query vectors, with the graph's names."""

    def __init__(self, fusion: Fusion) -> None:
        super().__init__()
        self.fusion = fusion

    def forward(self, clip_vector: Tensor, text_vector: Tensor) -> Tensor:
        return self.fusion(clip_vector, text_vector)


class _Factors(nn.Module):
    """Clip vectors, text vectors and given values to a composition, with the graph's names."""

    def __init__(self, fusion: FactoredFusion) -> None:
        super().__init__()
        self.fusion = fusion

    def forward(
        self, clip_vector: Tensor, text_vector: Tensor, given_factors: Tensor
    ) -> tuple[Tensor, ...]:
        return tuple(self.fusion.compose(clip_vector, text_vector, given_factors))


class _Graphs:
    """Exported graphs that are not in a bundle yet."""

    def __init__(self, folder: Path, tokenizer: Tokenizer | None) -> None:
        def open_graph(name: str) -> onnxruntime.InferenceSession:
            return open_session(folder / name, num_threads=torch.get_num_threads())

        self._video = open_graph(VIDEO_GRAPH)
        self._queries: QueryGraphs | None = None
        if tokenizer is not None:
            text, fusion = open_graph(TEXT_GRAPH), open_graph(FUSION_GRAPH)
            self._queries = QueryGraphs(text, fusion, tokenizer, folder)

    def embed_clips(self, frames_NTHWC: np.ndarray) -> np.ndarray:
        return np.asarray(self._video.run(["clip_vector"], {"frames": frames_NTHWC})[0])

    def embed_queries(self, clip_vectors_ND: np.ndarray, edit_texts: Sequence[str]) -> np.ndarray:
        assert self._queries is not None
        return self._queries.fuse(clip_vectors_ND, self._queries.encode_texts(edit_texts))


def _write_graph(
    module: nn.Module, inputs: dict[str, Tensor], dynamic: dict[str, dict], path: Path
) -> None:
    with torch.no_grad(), _quiet_exporter():
        program = torch.onnx.export(
            module.eval(),
            kwargs=inputs,
            dynamo=True,
            dynamic_shapes=dynamic,
            input_names=list(inputs),
            output_names=list(_OUTPUTS[path.name]),
            verbose=False,
        )
        if program is None:
            raise ExportError(f"torch gave no ONNX program for {path.name}")
        program.save(path, external_data=False)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """The exporter warns of packages and names that play no part here."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)


def _frames_to_check(
    config: ExportConfig, sampling: SamplingConfig, frames_NTHWC: np.ndarray | None
) -> tuple[np.ndarray, str]:
    """The clips to compare on, and where they come from; synthetic clips make up the number."""
    source = "frames of the caller"
    if frames_NTHWC is None:
        source = "synthetic" if config.clips is None else str(config.clips.name)
        frames_NTHWC = _read_frames(config, sampling)
    num_synthetic = max(config.num_clips - len(frames_NTHWC), 0)
    source_text = source if num_synthetic == 0 else "synthetic"
    if num_synthetic and len(frames_NTHWC):
        source_text = f"{source} ({len(frames_NTHWC)}) and synthetic ({num_synthetic})"
    synthetic_NTHWC = synthetic_clips(sampling, num_synthetic, name="parity")
    return np.concatenate([frames_NTHWC, synthetic_NTHWC]), source_text


def _read_frames(config: ExportConfig, sampling: SamplingConfig) -> np.ndarray:
    """Clips spread over the file; one that can't be decoded is left out."""
    size = sampling.frame_size or 1
    blocks = [np.empty((0, sampling.num_frames, size, size, 3), np.uint8)]
    if config.clips is not None:
        clips = read_clips(config.clips)
        step = max(len(clips) // config.num_clips, 1)
        chosen = clips[::step][: config.num_clips]
        decoded = [frames for _, frames in iter_clip_frames(chosen, sampling)]
        blocks += [frames[None] for frames in decoded if isinstance(frames, np.ndarray)]
    return np.concatenate(blocks)


def _describe(parity: ParityReport, clips_from: str, folder: Path) -> OnnxReport:
    graph = onnx.load(folder / VIDEO_GRAPH, load_external_data=False)
    opset = next(entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx"))
    return OnnxReport(
        min_cosine=parity.min_cosine,
        min_cosine_clips=parity.min_cosine_clips,
        min_cosine_queries=parity.min_cosine_queries,
        num_clips=parity.num_clips,
        clips_from=clips_from,
        opset=opset,
        torch_version=torch.__version__,
        onnxruntime_version=onnxruntime.__version__,
    )


def _add_files(folder: Path, temporary: Path, card: BundleCard) -> None:
    """Move the new files in; the card that names them is written last, so that a kill leaves a bundle without ONNX."""
    names = (*exported_names(card), CANARY_FILE)
    kept = {name: value for name, value in card.files.items() if name not in (*names, _OLD_GRAPH)}
    write_card(folder, with_bundle_id(replace(card, files=kept, onnx=None, canaries=None)))
    added: dict[str, str] = {}
    for name in names:
        added[name] = hash_file(temporary / name)
        (temporary / name).replace(folder / name)
    (folder / _OLD_GRAPH).unlink(missing_ok=True)
    write_card(folder, with_bundle_id(replace(card, files=kept | added)))
