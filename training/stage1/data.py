"""Sources of training clips: decoded frames or cached frame vectors, behind one protocol.

N clips, T frames, M cached positions, F length of a frame vector, H W pixels. What an example looks like in an epoch depends on
(seed, epoch, clip id) only, not on who loads it or when.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cluster.storage import write_atomic
from encoders.clips import Clip
from encoders.decoding.isolated import IsolatedDecoder, decoder_for
from encoders.decoding.request import DecodedSpan, DecodeRequest
from encoders.media.container import MediaLimits
from encoders.media.errors import DecodeError
from encoders.media.frame_index import Span
from encoders.media.sampling import Color, Resize, SamplingConfig, sample_positions
from training.configs import AugmentConfig
from training.stage1.augment import augment_frames
from training.stage1.frame_cache import MAX_FRAMES, FrameCache, KeptFrames
from training.stage1.frame_vectors import FrameVectors
from training.vectors.stage_runner import clip_fingerprint

_BATCHES_AHEAD = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class ExampleSettings:
    """Settings that every source needs to turn a clip into an example."""

    num_frames: int
    image_size: int
    augment: AugmentConfig
    seed: int
    resize: Resize = "pillow_bicubic"
    color: Color = "bt601"
    limits: MediaLimits = field(default_factory=MediaLimits)


class ClipSource(Protocol):
    """Clips by number; `epoch` None = deterministic, as in evaluation."""

    @property
    def clips(self) -> Sequence[Clip]: ...

    def load(self, numbers: np.ndarray, epoch: int | None) -> dict[str, Tensor]:
        """The encoder's input, and `weights` [N]: 0 for a clip that cannot be decoded."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeReport:
    """Decode backends used, and clips that could not be decoded: neither a fallback nor a loss is silent."""

    backends: tuple[str, ...]
    dead: Mapping[str, str]
    """Clip id -> reason."""


def example_rng(seed: int, epoch: int, clip_id: str) -> np.random.Generator:
    """The random generator of one clip in one epoch."""
    name = int.from_bytes(hashlib.sha256(clip_id.encode()).digest()[:8], "little")
    return np.random.default_rng([seed, epoch, name])


class CachedFeatureSource:
    """Samples T of the M cached frame vectors of each clip, or of its mirror image."""

    def __init__(
        self, clips: Sequence[Clip], vectors: FrameVectors, settings: ExampleSettings
    ) -> None:
        clip_by_id = {clip.clip_id: clip for clip in clips}
        self.clips = [clip_by_id[clip_id] for clip_id in vectors.clip_ids]
        self._vectors, self._settings = vectors, settings

    def decode_report(self) -> DecodeReport:
        dead = {letter.clip_id: letter.error.reason for letter in self._vectors.dead}
        return DecodeReport(backends=self._vectors.backends, dead=dead)

    def load(self, numbers: np.ndarray, epoch: int | None) -> dict[str, Tensor]:
        settings, vectors = self._settings, self._vectors
        num_positions = vectors.plain_NMF.shape[1]
        rows: list[Tensor] = []
        for number in numbers.tolist():
            cached_MF, rng = vectors.plain_NMF[number], None
            if epoch is not None:
                rng = example_rng(settings.seed, epoch, self.clips[number].clip_id)
                if settings.augment.flip and rng.random() < 0.5:
                    cached_MF = vectors.flipped_NMF[number]
            positions_T = sample_positions(num_positions, settings.num_frames, rng=rng)
            rows.append(cached_MF[torch.from_numpy(positions_T)])
        return {"frame_vectors": torch.stack(rows).float(), "weights": torch.ones(len(rows))}


class DecodedSource:
    """Decodes T frames of each clip, jittered, cropped and mirrored in training.

    Decoding runs in child processes, one per loading thread: a codec that crashes or hangs costs one clip, not the run. With a cache
    a clip is decoded once, whole, and examples are the same.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        settings: ExampleSettings,
        *,
        backend: str,
        device: str,
        cache: FrameCache | None = None,
        new_decoder: Callable[[str], IsolatedDecoder] = decoder_for,
    ) -> None:
        self.clips = list(clips)
        self._new_decoder = new_decoder
        self._idle: SimpleQueue[IsolatedDecoder] = SimpleQueue()
        self._settings, self._device = settings, device
        self._backend, self._cache = backend, cache
        self.frames_read: dict[tuple[int | None, str], list[int]] = {}
        self.failures: dict[str, DecodeError] = {}
        self.backends_used: set[str] = set()

    def load(self, numbers: np.ndarray, epoch: int | None) -> dict[str, Tensor]:
        examples = [self._load_clip(self.clips[number], epoch) for number in numbers.tolist()]
        size, num_frames = self._settings.image_size, self._settings.num_frames
        black_THWC = torch.zeros(num_frames, size, size, 3, dtype=torch.uint8)
        frames = [black_THWC if frames is None else frames for frames in examples]
        weights = [float(frames is not None) for frames in examples]
        return {"frames": torch.stack(frames), "weights": torch.tensor(weights)}

    def _load_clip(self, clip: Clip, epoch: int | None) -> Tensor | None:
        settings = self._settings
        rng = None if epoch is None else example_rng(settings.seed, epoch, clip.clip_id)
        size = settings.image_size
        if rng is not None and settings.augment.decode_size is not None:
            size = settings.augment.decode_size
        jitter_seed = None if rng is None else int(rng.integers(2**62))
        try:
            frames_THWC, indices_T, backend_used = self._read(clip, size, jitter_seed)
        except DecodeError as error:
            self.failures[clip.clip_id] = error
            return None
        self.frames_read[epoch, clip.clip_id] = indices_T.tolist()
        self.backends_used.add(backend_used)
        if rng is None:
            return torch.from_numpy(frames_THWC)
        return augment_frames(
            torch.from_numpy(frames_THWC), settings.augment, settings.image_size, rng
        )

    def _read(
        self, clip: Clip, size: int, jitter_seed: int | None
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Frames [T, S, S, 3], their numbers in the video [T], and what decoded them."""
        key = None if self._cache is None else self._cache_key(clip, size)
        kept = None if self._cache is None or key is None else self._cache.read(key)
        if kept is None:
            span = self._decode(clip, size, jitter_seed)
            assert span.frames_THWC is not None
            assert span.frame_indices_T is not None
            if not span.has_all_frames:
                return span.frames_THWC, span.frame_indices_T, span.backend_used
            first = int(span.frame_indices_T[0])
            kept = KeptFrames(
                frames_FSSC=span.frames_THWC, first=first, backend_used=span.backend_used
            )
            assert self._cache is not None
            assert key is not None
            self._cache.write(key, kept)
        # As the decoder would draw them.
        rng = None if jitter_seed is None else np.random.default_rng(jitter_seed)
        places_T = sample_positions(len(kept.frames_FSSC), self._settings.num_frames, rng=rng)
        return kept.frames_FSSC[places_T], kept.first + places_T, kept.backend_used

    def _cache_key(self, clip: Clip, size: int) -> str:
        settings = self._settings
        seen = (clip_fingerprint(clip), size, settings.resize, settings.color, self._backend)
        return hashlib.sha256(repr(seen).encode()).hexdigest()[:32]

    def _decode(self, clip: Clip, size: int, jitter_seed: int | None) -> DecodedSpan:
        """The clip's frames, all of them where the cache has room; its error is raised."""
        has_room = self._cache is not None and self._cache.has_room(MAX_FRAMES * size * size * 3)
        request = DecodeRequest(
            video=clip.video_uri,
            spans=(Span(start_s=clip.start_s, end_s=clip.end_s),),
            sampling=SamplingConfig(
                num_frames=self._settings.num_frames,
                frame_size=size,
                resize=self._settings.resize,
                color=self._settings.color,
            ),
            backend=self._backend,
            limits=self._settings.limits,
            device=self._device,
            jitter_seed=jitter_seed,
            max_all_frames=MAX_FRAMES if has_room else 0,
        )
        with self._borrowed_decoder() as decoder:
            (span,) = decoder.iter_spans(request)
        if span.error is not None:
            raise span.error
        return span

    @contextmanager
    def _borrowed_decoder(self) -> Iterator[IsolatedDecoder]:
        """A decoder for this thread while it decodes. Decoders outlive the threads, which end with each epoch."""
        try:
            decoder = self._idle.get_nowait()
        except Empty:
            decoder = self._new_decoder(self._device)
        try:
            yield decoder
        finally:
            self._idle.put(decoder)

    def decode_report(self) -> DecodeReport:
        dead = {clip_id: error.reason for clip_id, error in sorted(self.failures.items())}
        return DecodeReport(backends=tuple(sorted(self.backends_used)), dead=dead)

    def require_one_clip(self) -> None:
        """ValueError if every clip failed: that is a wrong folder, not a few bad clips."""
        if self.failures and not self.backends_used:
            clip_id, error = min(self.failures.items(), key=lambda failure: failure[0])
            raise ValueError(
                f"none of {len(self.failures)} clips can be decoded; {clip_id}: {error.reason}, {error}"
            )

    def write_frames_read(self, path: Path, epoch: int) -> None:
        """Write clip id -> display-order indices of the frames that the epoch read."""
        read = {
            clip_id: frames for (at, clip_id), frames in self.frames_read.items() if at == epoch
        }
        write_atomic(path, json.dumps(dict(sorted(read.items()))))

    def forget_frames_read(self) -> None:
        """Drop the indices of past epochs, so that memory does not grow over a long run."""
        self.frames_read.clear()


def balanced_order(labels_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """N clip numbers in which label counts differ by at most one; the clips of a label take turns."""
    labels = np.unique(labels_N)
    quota = np.full(len(labels), len(labels_N) // len(labels))
    quota[rng.permutation(len(labels))[: len(labels_N) - quota.sum()]] += 1
    drawn: list[np.ndarray] = []
    for label, count in zip(labels, quota, strict=True):
        clips = np.flatnonzero(labels_N == label)
        rounds = -(-int(count) // len(clips))
        drawn.append(np.concatenate([rng.permutation(clips) for _ in range(rounds)])[:count])
    return rng.permutation(np.concatenate(drawn))


def load_ahead(
    source: ClipSource, steps: Sequence[np.ndarray], *, epoch: int | None, num_threads: int
) -> Iterator[dict[str, Tensor]]:
    """Yield the steps in order; several threads load the next ones while a step is trained on."""
    with ThreadPoolExecutor(max_workers=num_threads, thread_name_prefix="load") as pool:

        def submit(numbers: np.ndarray) -> list[Future[dict[str, Tensor]]]:
            parts = np.array_split(numbers, min(num_threads, len(numbers)))
            return [pool.submit(source.load, part, epoch) for part in parts]

        waiting: deque[list[Future[dict[str, Tensor]]]] = deque()
        todo = iter(steps)
        try:
            for numbers in steps[: _BATCHES_AHEAD + 1]:
                waiting.append(submit(numbers))
                next(todo)
            while waiting:
                parts = [future.result() for future in waiting.popleft()]
                yield {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
                for numbers in todo:
                    waiting.append(submit(numbers))
                    break
        finally:
            for future in (future for futures in waiting for future in futures):
                future.cancel()
