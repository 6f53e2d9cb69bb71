"""Search in raw broadcasts whose spans nobody gave: moments beside oracle spans, fixed windows and shots.

Renders broadcasts, trains the moment head of a copy of a bundle on those of train (val chooses), and asks composed queries of others
whose pauses and speeds are spread wider. Resumable: rerun the same command. N clips, D clip
vector, Q queries.
"""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.demo.steps import CLASSES
from benchmarks.dives.archive import ArchiveConfig, run_jobs
from benchmarks.dives.broadcast import write_broadcasts
from benchmarks.dives.broadcast_plan import BroadcastConfig, RawConfig
from benchmarks.studies.moment_search import Gallery, Question, ask, longer_queries
from cluster.storage import write_atomic
from encoders.backends.base import EncoderBackend, embed_with_length
from encoders.backends.registry import open_backend
from encoders.clips import REPLAY_OF, Clip, read_clips
from encoders.decoding.decode import iter_spans, iter_timeline
from encoders.decoding.request import DecodeRequest
from encoders.media.container import MediaLimits
from encoders.media.frame_index import Span
from encoders.metrics import match_moments
from indexing.clipping.cut_video import CutSettings
from indexing.clipping.moments import MomentFinder
from indexing.clipping.split_videos import SplitConfig, split_videos
from training.annotations.triplets.build import TripletConfig, build_triplets
from training.stage1.moment_settings import MomentTraining
from training.stage1.moments import train_moment_head

_WINDOWS = {
    "window_2.5": CutSettings(length_s=2.5, every_s=1.25),
    "window_4": CutSettings(length_s=4.0, every_s=2.0),
}
_PARTS = {
    "moments": CutSettings(by="moments"),
    **_WINDOWS,
    "shots": CutSettings(by="shots", length_s=8.0),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Composed search in raw broadcasts without spans, beside search with the true spans."""

    bundle: Path
    """A bundle with text encoder, fusion and ONNX files, such as the demo's; it is copied."""
    out: Path
    """Where broadcasts, heads and the figures of each seed are kept."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Of the broadcasts and of the head."""
    num_broadcasts: int = 3
    """Of train, and of val."""
    num_dives: int = 20
    """Of each of them."""
    num_test_broadcasts: int = 4
    num_test_dives: int = 36
    num_steps: int = 350
    """Of the head's training."""
    num_queries: int = 300
    """Of each seed."""
    num_workers: int = 1
    """Processes side by side."""


def measure(config: Config) -> dict[str, object]:
    """Means over the seeds, and the figures of each."""
    training = [(seed, config) for seed in config.seeds if not _path(config, seed, "head").exists()]
    run_jobs(_train, training, num_workers=config.num_workers, quiet=True, title="heads")
    parts = [
        (seed, part, config)
        for part in _PARTS
        for seed in config.seeds
        if not _path(config, seed, part).exists()
    ]
    run_jobs(_search, parts, num_workers=config.num_workers, quiet=True, title="searches")
    by_seed = [_figures(config, seed) for seed in config.seeds]
    figures: dict[str, object] = {
        name: float(np.mean([of_seed[name] for of_seed in by_seed])) for name in by_seed[0]
    }
    oracle = np.array([of_seed["oracle_map50"] for of_seed in by_seed])
    moment = np.array([of_seed["moment_map50"] for of_seed in by_seed])
    window = np.array([of_seed["best_window_map50"] for of_seed in by_seed])
    return {
        **figures,
        "moment_over_oracle": float((moment / oracle).mean()),
        "worst_moment_over_oracle": float((moment / oracle).min()),
        "moment_over_window": float((moment / window).mean()),
        "seeds": {str(seed): of_seed for seed, of_seed in zip(config.seeds, by_seed, strict=True)},
    }


def broadcasts(config: Config, seed: int) -> tuple[BroadcastConfig, BroadcastConfig]:
    """Those that the head learns from, and those that are searched."""
    archive = ArchiveConfig(classes=CLASSES, seed=seed)
    seen = BroadcastConfig(
        archive=archive,
        num_broadcasts=config.num_broadcasts,
        num_dives=config.num_dives,
        dead_time_s=(1.0, 6.0),
        raw=RawConfig(),
    )
    held_out = replace(
        seen,
        num_broadcasts=config.num_test_broadcasts,
        num_dives=config.num_test_dives,
        dead_time_s=(0.5, 9.0),
        raw=RawConfig(speed=(0.75, 1.3), replay_speed=(0.35, 0.8)),
    )
    return seen, held_out


def _path(config: Config, seed: int, part: str) -> Path:
    """The figures of a part, written when it is finished."""
    return config.out / f"seed{seed}" / f"{part}.json"


def _figures(config: Config, seed: int) -> dict[str, float]:
    scores = json.loads(_path(config, seed, "head").read_text())
    figures = {f"val_{name}": float(value) for name, value in scores.items()}
    for part in _PARTS:
        figures |= json.loads(_path(config, seed, part).read_text())
    figures["best_window_map50"] = max(figures[f"{name}_map50"] for name in _WINDOWS)
    figures["dead_time_share"] = figures["moments_dead_time_share"]
    figures["echo_at_10"] = figures["moments_echo_at_10"]
    figures["moment_map50"] = figures.pop("moments_map50")
    return figures


def _train(job: tuple[int, Config]) -> None:
    """Renders the broadcasts of a seed and trains its head."""
    seed, config = job
    _use_one_thread()
    folder = config.out / f"seed{seed}"
    seen, held_out = broadcasts(config, seed)
    clips = write_broadcasts(
        folder / "seen", seen, splits=("train", "val"), num_workers=1, quiet=True
    )
    write_broadcasts(folder / "held_out", held_out, splits=("test",), num_workers=1, quiet=True)
    bundle = folder / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    shutil.copytree(config.bundle, bundle)
    scores = train_moment_head(
        MomentTraining(bundle=bundle, clips=clips, num_steps=config.num_steps, seed=seed)
    )
    write_atomic(_path(config, seed, "head"), json.dumps(asdict(scores)))


def _search(job: tuple[int, str, Config]) -> None:
    """Searches the spans of one kind."""
    seed, part, config = job
    _use_one_thread()
    folder = config.out / f"seed{seed}"
    truth = read_clips(folder / "held_out" / "clips.parquet")
    backend = open_backend(folder / "bundle", "onnx", device="cpu", num_threads=1)
    oracle_s, oracle = _embedded(backend, truth)
    questions = _questions(config, backend, truth, oracle)
    split = SplitConfig(
        videos=str(Path(truth[0].video_uri).parent),
        out=folder / f"{part}.parquet",
        cut=_PARTS[part],
        bundle=folder / "bundle" if part == "moments" else None,
        num_workers=1,
    )
    split_videos(split)
    found = read_clips(split.out)
    embed_s, gallery = _embedded(backend, found)
    if part != "moments":
        figures = ask(gallery.merging(), truth, questions).named(part)
        write_atomic(_path(config, seed, part), json.dumps(figures))
        return
    finder = MomentFinder(folder / "bundle")
    find_s = _seconds_to_find(finder, sorted({clip.video_uri for clip in truth}))
    figures = ask(gallery, truth, questions).named(part)
    figures |= ask(oracle, truth, questions).named("oracle")
    figures["echo_at_10_ungrouped"] = ask(gallery.ungrouped(), truth, questions).echo_at_10
    figures["index_time_ratio"] = (find_s + embed_s) / oracle_s
    figures["find_cpu_s"], figures["oracle_cpu_s"] = find_s, oracle_s
    figures |= _agreement(found, truth)
    figures |= longer_queries(backend, finder, gallery, truth, questions)
    write_atomic(_path(config, seed, part), json.dumps(figures))


def _use_one_thread() -> None:
    """CPU-seconds are compared."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def _questions(
    config: Config, backend: EncoderBackend, truth: Sequence[Clip], oracle: Gallery
) -> list[Question]:
    """Composed queries of true live spans; any performance of the asked label is an answer, but the query's own."""
    live = [clip for clip in truth if REPLAY_OF not in clip.attributes]
    triplets = build_triplets(live, TripletConfig(num_triplets=config.num_queries))
    place = {clip.clip_id: n for n, clip in enumerate(oracle.clips)}
    by_id = {clip.clip_id: clip for clip in live}
    clips_QD = np.stack([oracle.given_ND[place[t.query_clip_id]] for t in triplets])
    queries_QD = backend.embed_queries(clips_QD, [t.edit_text for t in triplets])
    return [
        Question(
            clip=by_id[t.query_clip_id],
            edit_text=t.edit_text,
            vector_D=vector_D,
            relevant=frozenset(
                c.clip_id
                for c in live
                if c.label == t.target_label and c.clip_id != t.query_clip_id
            ),
        )
        for t, vector_D in zip(triplets, queries_QD, strict=True)
    ]


def _embedded(backend: EncoderBackend, clips: Sequence[Clip]) -> tuple[float, Gallery]:
    """CPU-seconds to decode and embed, on one thread in this process, and the vectors."""
    order: list[Clip] = []
    units: list[np.ndarray] = []
    lengths: list[np.ndarray] = []
    started = time.process_time()
    for uri in sorted({clip.video_uri for clip in clips}):
        of_video = [clip for clip in clips if clip.video_uri == uri]
        request = DecodeRequest(
            video=uri,
            spans=tuple(Span(start_s=c.start_s, end_s=c.end_s) for c in of_video),
            sampling=backend.card.sampling,
        )
        for span in iter_spans(request):
            if span.frames_THWC is None:
                raise ValueError(f"{of_video[span.number].clip_id}: {span.error}")
            unit_1D, length_1 = embed_with_length(backend, span.frames_THWC[None])
            order.append(of_video[span.number])
            units.append(unit_1D[0])
            lengths.append(length_1)
    cpu_s = time.process_time() - started
    unit_ND = np.stack(units)
    fusion = backend.card.fusion
    is_long = fusion is not None and fusion.keeps_length
    given_ND = unit_ND * np.stack(lengths) if is_long else unit_ND
    return cpu_s, Gallery(clips=order, vectors_ND=unit_ND, given_ND=given_ND)


def _seconds_to_find(finder: MomentFinder, videos: Sequence[str]) -> float:
    """CPU-seconds to look through the videos, on one thread in this process."""
    started = time.process_time()
    for video in videos:
        finder.find(iter_timeline(finder.request(video, MediaLimits())))
    return time.process_time() - started


def _agreement(found: Sequence[Clip], truth: Sequence[Clip]) -> dict[str, float]:
    """Of all moments with all true spans."""
    matches = match_moments([_span(c) for c in found], [_span(c) for c in truth])
    pairs = [(a, truth[n]) for a, n in zip(found, matches, strict=True) if n >= 0]
    errors_s = [
        abs(given - true)
        for a, b in pairs
        for given, true in zip(_span(a)[1:], _span(b)[1:], strict=True)
    ]
    live_of = {clip.clip_id: b.clip_id for clip, b in pairs}
    replays = [(a, b) for a, b in pairs if REPLAY_OF in b.attributes]
    grouped = [live_of.get(a.attributes.get(REPLAY_OF, "")) == b.attributes[REPLAY_OF] for a, b in replays]  # fmt: skip
    return {
        "num_true": len(truth),
        "num_moments": len(found),
        "recall": len({b.clip_id for _, b in pairs}) / len(truth),
        "precision": len({b.clip_id for _, b in pairs}) / max(len(found), 1),
        "end_error_s": float(np.median(errors_s)),
        "p90_end_error_s": float(np.quantile(errors_s, 0.9)),
        "replays_grouped": float(np.mean(grouped)),
    }


def _span(clip: Clip) -> tuple[str, float, float]:
    return clip.video_uri, clip.start_s, float(clip.end_s or 0.0)
