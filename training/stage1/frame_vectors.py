"""Frame vectors of the frozen image part, computed once and kept in chunks, so that only the temporal part is trained.

N clips, M kept positions per clip, F length of a frame vector. A chunk is a safetensors file with the vectors and those of the
mirrored frames, bf16; its metadata names its clips and the key of what made it.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cluster.progress import progress_bar
from cluster.storage import write_atomic
from encoders.clips import Clip
from encoders.decoding.backends import decode_backend
from encoders.media.sampling import Color, Resize, SamplingConfig, sampling_to_dict
from encoders.stages.base import DeadLetter, error_of, split_rows
from encoders.video_encoder.config import (
    TrainableConfig,
    video_config_from_dict,
    video_config_to_dict,
)
from encoders.video_encoder.registry import build_video_encoder
from training.configs import LaunchSettings
from training.vectors.outcomes import USUAL
from training.vectors.stage_runner import FlowPlan, clip_fingerprint, run_flow

logger = logging.getLogger(__name__)
_CHUNK = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorSource:
    """What decides the vectors of a clip: the image part (weights in a file) and the kept positions."""

    config: TrainableConfig
    weights_path: str
    """State dict of the image part, safetensors."""
    num_positions: int
    resize: Resize = "pillow_bicubic"
    color: Color = "bt601"
    decode_backend: str = "pyav"
    device: str = "cpu"

    @property
    def sampling(self) -> SamplingConfig:
        """Of the kept positions."""
        return SamplingConfig(
            num_frames=self.num_positions,
            frame_size=self.config.image_size,
            resize=self.resize,
            color=self.color,
        )

    @property
    def key(self) -> str:
        """Changes when the vectors of a clip may change."""
        digest = hashlib.sha256(Path(self.weights_path).read_bytes())
        sampling = sampling_to_dict(self.sampling)
        digest.update(json.dumps(sampling, sort_keys=True).encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class FrameVectors:
    """All kept clips, in the order of their ids."""

    clip_ids: tuple[str, ...]
    plain_NMF: Tensor
    flipped_NMF: Tensor
    dead: tuple[DeadLetter, ...]
    backends: tuple[str, ...] = ()
    """What decoded them."""


class FrameVectorStage:
    """Frames in, frame vectors out, as a stage of a flow."""

    def __init__(self, *, config: dict[str, Any], weights_path: str, device: str) -> None:
        encoder: Any = build_video_encoder(video_config_from_dict(config)).eval().to(device)
        encoder.image.load_state_dict(safetensors.torch.load_file(weights_path))
        self._encoder, self._device = encoder, device.split(":")[0]
        # They are kept in bf16 anyway; a CPU without the instructions would be slower in it.
        has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        self._in_bf16 = device != "cpu" or has_bf16()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        frames_NMHWC = batch.pop("frames")
        for name in ("vectors", "flipped"):
            batch[name] = np.full(len(frames_NMHWC), b"", object)
        for row, error in enumerate(batch["error"]):
            if error_of(error) is None:
                plain, flipped = self._vectors(frames_NMHWC[row])
                batch["vectors"][row], batch["flipped"][row] = plain, flipped
        return batch

    def _vectors(self, frames_MHWC: np.ndarray) -> tuple[bytes, bytes]:
        plain_MHWC = torch.from_numpy(frames_MHWC).to(self._device)
        both_2MHWC = torch.stack([plain_MHWC, plain_MHWC.flip(2)])
        with torch.inference_mode(), torch.autocast(self._device, torch.bfloat16, self._in_bf16):
            vectors_2MF = self._encoder.frame_vectors(both_2MHWC)
        halves = vectors_2MF.float().cpu().to(torch.bfloat16).view(torch.int16).numpy()
        return halves[0].tobytes(), halves[1].tobytes()


def keep_frame_vectors(
    clips: Sequence[Clip], source: VectorSource, folder: Path, launch: LaunchSettings
) -> None:
    """Compute what the folder does not hold yet; resumable after the last whole chunk."""
    key, limits = source.key, str(launch.limits.unusual())
    held = {
        item
        for _path, meta in _chunks(folder, key)
        for item in meta["clips"].items()
        if meta.get("limits", USUAL) == limits or not _is_by_limit(meta["dead"].get(item[0]))
    }
    missing = [clip for clip in clips if (clip.clip_id, clip_fingerprint(clip)) not in held]
    if not missing:
        return
    clip_by_id = {clip.clip_id: clip for clip in missing}
    plan = FlowPlan(
        decode_arguments={
            "sampling": source.sampling,
            "backend": source.decode_backend,
            "device": decode_backend(source.decode_backend).device_kind_for(source.device),
            "limits": launch.limits,
        },
        stage=FrameVectorStage,
        stage_arguments={
            "config": video_config_to_dict(source.config),
            "weights_path": source.weights_path,
            "device": source.device,
        },
        batch_size=8,
        num_workers=_num_workers(len(missing), source, launch),
        use_gpu=source.device != "cpu",
    )
    waiting: list[dict[str, Any]] = []
    with progress_bar("frame vectors", len(clips), shown=launch.show_progress) as update:
        done = len(clips) - len(missing)
        for row in run_flow(missing, plan):
            waiting.append(row)
            done += 1
            update(done, "")
            if len(waiting) == _CHUNK:
                _write_chunk(folder, source, waiting, clip_by_id, limits)
                waiting = []
    if waiting:
        _write_chunk(folder, source, waiting, clip_by_id, limits)


def _is_by_limit(letter: Mapping[str, str] | None) -> bool:
    """Whether a clip failed, and may be read under other limits."""
    return letter is not None and DeadLetter.from_columns(letter).error.is_by_limit


def _num_workers(num_clips: int, source: VectorSource, launch: LaunchSettings) -> int:
    """Actors take longer to start than a CPU needs for one chunk."""
    return 0 if num_clips <= _CHUNK and source.device == "cpu" else launch.num_workers


def read_frame_vectors(clips: Sequence[Clip], source: VectorSource, folder: Path) -> FrameVectors:
    """Of the clips that could be decoded; ValueError if the folder lacks one."""
    wanted = {(clip.clip_id, clip_fingerprint(clip)) for clip in clips}
    both_by_id: dict[str, tuple[Tensor, Tensor]] = {}
    letter_by_id: dict[str, DeadLetter] = {}
    backends: set[str] = set()
    for path, meta in _chunks(folder, source.key):
        tensors = safetensors.torch.load_file(path)
        clip_ids = [item[0] for item in meta["clips"].items() if item in wanted]
        backends.update(meta["backends"] if clip_ids else ())
        letter_by_id |= {
            c: DeadLetter.from_columns(meta["dead"][c]) for c in clip_ids if c in meta["dead"]
        }
        row_by_id = {clip_id: row for row, clip_id in enumerate(meta["rows"])}
        for clip_id in (c for c in clip_ids if c in row_by_id):
            row = row_by_id[clip_id]
            both_by_id[clip_id] = (tensors["plain"][row], tensors["flipped"][row])
    # What a limit refused in one run another may have read.
    dead = tuple(letter for c, letter in letter_by_id.items() if c not in both_by_id)
    if missing := {c for c, _print in wanted} - both_by_id.keys() - letter_by_id.keys():
        raise ValueError(
            f"{folder}: {len(missing)} clips have no frame vectors: {sorted(missing)[:3]}"
        )
    if not both_by_id:
        reason = f": {dead[0].error.reason}, {dead[0].error.detail}" if dead else ""
        raise ValueError(f"none of {len(clips)} clips can be decoded{reason}")
    kept_ids = sorted(both_by_id)
    return FrameVectors(
        clip_ids=tuple(kept_ids),
        plain_NMF=torch.stack([both_by_id[c][0] for c in kept_ids]),
        flipped_NMF=torch.stack([both_by_id[c][1] for c in kept_ids]),
        dead=dead,
        backends=tuple(sorted(backends)),
    )


def _chunks(folder: Path, key: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(folder.glob("chunk-*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                meta = json.loads((file.metadata() or {})["tfcovr"])
            if meta["key"] != key:
                continue
            if not (isinstance(meta["clips"], dict) and isinstance(meta["dead"], dict)):
                raise ValueError("it does not name its clips")
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s is damaged (%s); its clips are computed again", path, error)
            continue
        yield path, meta


def _write_chunk(
    folder: Path,
    source: VectorSource,
    rows: list[dict[str, Any]],
    clip_by_id: dict[str, Clip],
    limits: str,
) -> None:
    good, dead = split_rows(rows)
    encoded = sorted(good, key=lambda row: row["clip_id"])
    clips = {str(row["clip_id"]): clip_fingerprint(clip_by_id[row["clip_id"]]) for row in rows}
    meta = {
        "key": source.key,
        "limits": limits,
        "clips": clips,
        "rows": [str(row["clip_id"]) for row in encoded],
        "dead": {letter.clip_id: letter.to_columns() for letter in dead},
        "backends": sorted({str(row["decode_backend"]) for row in encoded}),
    }
    tensors: dict[str, Tensor] = {}
    for name, column in (("plain", "vectors"), ("flipped", "flipped")):
        if encoded:
            raw = [np.frombuffer(row[column], np.int16) for row in encoded]
            vectors_NK = torch.from_numpy(np.stack(raw)).view(torch.bfloat16)
            tensors[name] = vectors_NK.unflatten(1, (source.num_positions, -1))
    name = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()[:16]
    content = safetensors.torch.save(tensors, {"tfcovr": json.dumps(meta)})
    write_atomic(folder / f"chunk-{name}.safetensors", content)
