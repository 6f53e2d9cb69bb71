"""Trains the head that finds moments in long videos, from clips that name spans of them, and puts it into a bundle.

Glances of all videos are read once, three times as dense as the head sees them: an example is a stretch of a video at a random
phase and pace. N stretches, T glances, H W pixels, C = 3 (RGB), K curves.
"""

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cluster.progress import progress_bar
from encoders.bundle.card import read_card
from encoders.bundle.moments import save_moment_head
from encoders.clips import REPLAY_OF, Clip, read_clips
from encoders.decoding.isolated import IsolatedTimeline
from encoders.decoding.request import TimelineRequest
from encoders.media.container import MediaLimits
from encoders.media.errors import DecodeError
from encoders.metrics import match_moments
from encoders.video_encoder.config import MomentConfig
from encoders.video_encoder.moment_head import CURVES, MomentHead, curves_of_video
from encoders.video_encoder.proposals import Moment, find_moments
from training.stage1.moment_settings import MomentTraining

logger = logging.getLogger(__name__)
_DENSER = 3
_PACE = (0.65, 1.5)
_DEADLINE_S = 120.0
_START, _END, _REPLAY = (CURVES.index(name) for name in ("start", "end", "replay"))


@dataclass(frozen=True, kw_only=True, slots=True)
class MomentScores:
    """How the moments that a head finds agree with the true spans of some videos."""

    num_true: int
    num_found: int
    recall: float
    """Share of the true spans that one is found for, at temporal IoU >= 0.5."""
    precision: float
    end_error_s: float
    """Median distance of a found start or end from the true one."""
    replay_accuracy: float
    """Share of the found ones that are rightly taken for live or for a replay."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The glances of a video and the spans that are named in it."""

    uri: str
    frames_THWC: np.ndarray
    times_s: np.ndarray
    spans_P2: np.ndarray
    is_replay_P: np.ndarray


def train_moment_head(config: MomentTraining, *, show_progress: bool = False) -> MomentScores:
    """Trains, chooses the lowest score that is a moment, and saves; what the validation videos say of the result.

    ValueError where clips name no span, or no video can be decoded.
    """
    read_card(config.bundle)
    train, val = _split_by_video(read_clips(config.clips))
    hours, limits = config.max_hours, config.limits
    timelines = read_timelines(train, config.head, max_hours=hours, limits=limits)
    held_out = read_timelines(val, config.head, max_hours=hours / 4, limits=limits) or timelines
    lengths_s = np.concatenate([t.spans_P2[:, 1] - t.spans_P2[:, 0] for t in timelines])
    bounds_s = (float(lengths_s.min()) * 0.5, float(lengths_s.max()) * 1.5)
    torch.manual_seed(config.seed)
    head = MomentHead(replace(config.head, duration_s=bounds_s))
    _fit(head, timelines, config, show_progress=show_progress)
    chosen = replace(head.config, min_score=_best_min_score(head, held_out))
    final = MomentHead(chosen)
    final.load_state_dict(head.state_dict())
    save_moment_head(config.bundle, final.eval())
    return score_moments(final, held_out)


def score_moments(head: MomentHead, timelines: Sequence[Timeline]) -> MomentScores:
    """With the head's own lowest score."""
    found = {t.uri: _moments(head, t) for t in timelines}
    return _scores(found, timelines, head.config.min_score)


def read_timelines(
    clips: Sequence[Clip],
    head: MomentConfig,
    *,
    max_hours: float = float("inf"),
    limits: MediaLimits | None = None,
) -> list[Timeline]:
    """Of the videos of these clips; one that cannot be decoded is left out with a warning."""
    by_video: dict[str, list[Clip]] = {}
    for clip in clips:
        by_video.setdefault(clip.video_uri, []).append(clip)
    timelines: list[Timeline] = []
    hours = 0.0
    with IsolatedTimeline(deadline_s=_DEADLINE_S) as decoder:
        for uri, of_video in by_video.items():
            if hours >= max_hours:
                logger.warning(
                    "%d videos beyond %g hours are left out",
                    len(by_video) - len(timelines),
                    max_hours,
                )
                break
            try:
                timelines.append(_read(decoder, uri, of_video, head, limits or MediaLimits()))
            except DecodeError as error:
                logger.warning("%s is left out: %s", uri, error)
                continue
            hours += float(np.ptp(timelines[-1].times_s)) / 3600
    if clips and not timelines:
        raise ValueError(
            f"none of {len(by_video)} videos can be decoded, the first is {next(iter(by_video))}"
        )
    return timelines


def _read(
    decoder: IsolatedTimeline,
    uri: str,
    clips: Sequence[Clip],
    head: MomentConfig,
    limits: MediaLimits,
) -> Timeline:
    request = TimelineRequest(
        video=uri,
        reads_frames=True,
        frames_per_s=head.glances_per_s * _DENSER,
        frame_size=head.glance_size,
        resize="swscale_area",
        limits=limits,
    )
    with closing(decoder.iter_blocks(request)) as blocks:
        end_s = float(next(blocks).times_s[-1])
        read = [(block.frames_THWC, block.times_s[:-1]) for block in blocks]
    frames = [frames for frames, _times_s in read if frames is not None]
    if not frames:
        raise DecodeError("corrupt_container", "no frame decodes")
    spans = [(clip.start_s, end_s if clip.end_s is None else clip.end_s) for clip in clips]
    return Timeline(
        uri=uri,
        frames_THWC=np.concatenate(frames),
        times_s=np.concatenate([times_s for _frames, times_s in read]),
        spans_P2=np.array(spans),
        is_replay_P=np.array([REPLAY_OF in clip.attributes for clip in clips]),
    )


def _split_by_video(clips: Sequence[Clip]) -> tuple[list[Clip], list[Clip]]:
    """Clips to train on and to choose with; those of the split test are not touched."""
    used = [clip for clip in clips if clip.split != "test"]
    if not any(clip.start_s or clip.end_s for clip in used):
        raise ValueError(
            f"{len(used)} clips outside of the split test name no start or end; the head learns from spans of long videos"
        )
    val = [clip for clip in used if clip.split == "val"]
    if val:
        return [clip for clip in used if clip.split != "val"] or val, val
    videos = sorted({clip.video_uri for clip in used})
    chosen = set(videos[4::5])
    return (
        [clip for clip in used if clip.video_uri not in chosen],
        [clip for clip in used if clip.video_uri in chosen],
    )


def _fit(
    head: MomentHead, timelines: Sequence[Timeline], config: MomentTraining, *, show_progress: bool
) -> None:
    rng = np.random.default_rng(config.seed)
    optimizer = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.num_steps
    )
    share_N = np.array([len(timeline.times_s) for timeline in timelines], float)
    share_N /= share_N.sum()
    with progress_bar("moment head", config.num_steps, shown=show_progress) as update:
        for step in range(config.num_steps):
            chosen = rng.choice(len(timelines), size=config.batch_size, p=share_N)
            stretches = [_stretch(timelines[n], config, rng) for n in chosen]
            glances_NTHWC, wanted_NTK = (
                torch.stack(parts) for parts in zip(*stretches, strict=True)
            )
            loss = _loss(head(glances_NTHWC), wanted_NTK)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            update(step + 1, f"loss {loss.item():.3f}")


def _loss(logits_NTK: Tensor, wanted_NTK: Tensor) -> Tensor:
    """Binary cross-entropy of each curve; replay or not is asked within actions only."""
    each_NTK = F.binary_cross_entropy_with_logits(logits_NTK, wanted_NTK, reduction="none")
    weights_NTK = torch.ones_like(each_NTK)
    weights_NTK[..., [_START, _END]] = 1 + 4 * wanted_NTK[..., [_START, _END]]
    weights_NTK[..., _REPLAY] = wanted_NTK[..., 0]
    return (each_NTK * weights_NTK).mean()


def _stretch(
    timeline: Timeline, config: MomentTraining, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Glances [T, H, W, C] of a stretch at some pace, perhaps mirrored and in other light, and its curves [T, K]."""
    step_s = float(np.exp(rng.uniform(*np.log(_PACE)))) / config.head.glances_per_s
    first_s = rng.uniform(timeline.times_s[0] - 4, timeline.times_s[-1] - 4)
    wanted_s = first_s + step_s * np.arange(config.stretch)
    places_T = np.searchsorted(timeline.times_s, wanted_s).clip(0, len(timeline.times_s) - 1)
    glances = timeline.frames_THWC[places_T].astype(np.float32)
    if rng.random() < 0.5:
        glances = glances[:, :, ::-1]
    glances = glances * rng.uniform(0.7, 1.3, (1, 1, 1, 3)) + rng.uniform(-20, 20)
    glances += rng.normal(0, rng.uniform(0, 6), glances.shape)
    pixels_THWC = torch.from_numpy(glances.clip(0, 255).astype(np.uint8))
    return pixels_THWC, _curves(timeline, timeline.times_s[places_T], step_s)


def _curves(timeline: Timeline, times_s: np.ndarray, step_s: float) -> Tensor:
    """What the head should say [T, K]: a boundary is a bell, one step wide, around its second."""
    after_TP = times_s[:, None] - timeline.spans_P2[None, :, 0]
    before_TP = timeline.spans_P2[None, :, 1] - times_s[:, None]
    is_in_TP = (after_TP >= 0) & (before_TP > 0)
    curves_TK = np.zeros((len(times_s), len(CURVES)), np.float32)
    curves_TK[:, 0] = is_in_TP.any(axis=1)
    for place, distance_TP in ((_START, after_TP), (_END, before_TP)):
        curves_TK[:, place] = np.exp(-(np.abs(distance_TP).min(axis=1) ** 2) / (2 * step_s**2))
    curves_TK[:, _REPLAY] = (is_in_TP & timeline.is_replay_P[None]).any(axis=1)
    return torch.from_numpy(curves_TK)


def _moments(head: MomentHead, timeline: Timeline, *, min_score: float = 0.05) -> list[Moment]:
    """As indexing finds them: glances as far apart as the head has them."""
    every = max(1, round(1 / (np.median(np.diff(timeline.times_s)) * head.config.glances_per_s)))
    curves_TK = curves_of_video(head, [timeline.frames_THWC[::every]])
    return find_moments(
        curves_TK,
        timeline.times_s[::every],
        duration_s=head.config.duration_s,
        min_score=min_score,
    )


def _best_min_score(head: MomentHead, timelines: Sequence[Timeline]) -> float:
    """The lowest score with the best F1 at temporal IoU >= 0.5."""
    head.eval()
    found = {t.uri: _moments(head, t) for t in timelines}

    def f1(min_score: float) -> float:
        scores = _scores(found, timelines, min_score)
        return scores.precision * scores.recall / max(scores.precision + scores.recall, 1e-9)

    candidates = np.arange(0.1, 0.91, 0.05)
    values = np.array([f1(float(candidate)) for candidate in candidates])
    best = np.flatnonzero(values >= values.max() - 1e-9)
    return round(float(candidates[best[len(best) // 2]]), 3)


def _scores(
    found: dict[str, list[Moment]], timelines: Sequence[Timeline], min_score: float
) -> MomentScores:
    moments = [
        (uri, m) for uri, of_video in found.items() for m in of_video if m.score >= min_score
    ]
    truth: list[tuple[str, float, float]] = []
    is_replay: list[bool] = []
    for timeline in timelines:
        truth += [(timeline.uri, float(a), float(b)) for a, b in timeline.spans_P2]
        is_replay += timeline.is_replay_P.tolist()
    matches = match_moments([(uri, m.start_s, m.end_s) for uri, m in moments], truth)
    pairs = [(m, n) for (_uri, m), n in zip(moments, matches, strict=True) if n >= 0]
    errors_s = [
        abs(given - true)
        for m, n in pairs
        for given, true in ((m.start_s, truth[n][1]), (m.end_s, truth[n][2]))
    ]
    return MomentScores(
        num_true=len(truth),
        num_found=len(moments),
        recall=len({n for _m, n in pairs}) / max(len(truth), 1),
        precision=len({n for _m, n in pairs}) / max(len(moments), 1),
        end_error_s=float(np.median(errors_s)) if errors_s else float("inf"),
        replay_accuracy=float(np.mean([m.is_replay == is_replay[n] for m, n in pairs]))
        if pairs
        else 0.0,
    )
