"""Long videos: one broadcast of many dives from one pool, with dead time between them.

clips.parquet then names spans of a video, as real archives have them: many clips, few files. A replay is a clip of its own, with the
id of the clip that it shows again in its attribute `replay_of`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from benchmarks.dives.archive import ARCHIVE_SPLITS, claim_folder, run_jobs
from benchmarks.dives.broadcast_plan import (
    BroadcastConfig,
    PlannedDive,
    Showing,
    execution_of,
    plan_broadcast,
)
from benchmarks.dives.motion.execution import FPS
from benchmarks.dives.motion.kinematics import DiveMotion, perform
from benchmarks.dives.rendering.overlay import draw_caption, draw_scoreboard, draw_wipe
from benchmarks.dives.rendering.render import render_empty, render_frames
from benchmarks.dives.rendering.scene import Scene, SceneIndices, draw_scene
from benchmarks.dives.video import find_format, write_video
from encoders.clips import REPLAY_OF, Clip, write_clips
from training.annotations.labels.dive_numbers import parse_dive_number

_SCOREBOARD_SHARE = 0.35


def write_broadcasts(
    out_dir: Path,
    config: BroadcastConfig,
    *,
    splits: Sequence[str] = ARCHIVE_SPLITS,
    num_workers: int | None = None,
    quiet: bool = False,
) -> Path:
    """Render what is missing of these splits; returns the path of clips.parquet, which is written last."""
    claim_folder(out_dir, {"kind": "broadcasts", **asdict(config)})
    suffix = find_format(config.archive.codec).suffix
    paths = {
        (split, number): out_dir / split / f"{split}-broadcast-{number:04d}{suffix}"
        for split in splits
        for number in range(config.num_broadcasts)
    }
    missing = [
        (config, split, number, path)
        for (split, number), path in paths.items()
        if not path.exists()
    ]
    run_jobs(_render_job, missing, num_workers=num_workers, quiet=quiet, title="render")
    clips = [
        clip
        for (split, number), path in paths.items()
        for position, dive in enumerate(plan_broadcast(config, split, number))
        for clip in _clips(dive, path, split, position)
    ]
    clips_path = out_dir / "clips.parquet"
    write_clips(clips_path, clips)
    return clips_path


def _clips(dive: PlannedDive, path: Path, split: str, position: int) -> Iterator[Clip]:
    live = Clip(
        clip_id=f"{path.stem}-{position:04d}-{dive.label}",
        video_uri=str(path.resolve()),
        start_s=dive.live.first_frame / FPS,
        end_s=dive.live.end_frame / FPS,
        label=dive.label,
        split=split,
        attributes=parse_dive_number(dive.label).attributes,
    )
    yield live
    if dive.replay is not None:
        yield replace(
            live,
            clip_id=f"{live.clip_id}-replay",
            start_s=dive.replay.first_frame / FPS,
            end_s=dive.replay.end_frame / FPS,
            attributes={**live.attributes, REPLAY_OF: live.clip_id},
        )


def _render_job(job: tuple[BroadcastConfig, str, int, Path]) -> None:
    config, split, number, path = job
    write_video(path, _render(config, split, number), codec=config.archive.codec)


def _render(config: BroadcastConfig, split: str, number: int) -> Iterator[np.ndarray]:
    """Pause, dive, pause, dive ...: one chunk of frames each, so that memory stays small."""
    for dive in plan_broadcast(config, split, number):
        motion, scene = _staged(config, split, number, dive, dive.live)
        if config.raw is None:
            yield render_empty(scene, board_m=motion.board_m, frame=0, num_frames=dive.pause_frames)
            yield render_frames(motion, scene)
            continue
        rng = np.random.default_rng(dive.details)
        yield _cutaway(config, split, number, dive, rng)
        motion, scene = _held(motion, scene, dive.lead_frames, dive.tail_frames)
        frames_THWC = render_frames(motion, scene)
        draw_caption(frames_THWC, rng, is_replay=False)
        yield frames_THWC
        if dive.replay is None:
            continue
        motion, scene = _staged(config, split, number, dive, dive.replay)
        again_THWC = render_frames(motion, scene)
        draw_caption(again_THWC, rng, is_replay=True)
        colour = rng.integers(40, 255, 3)
        yield draw_wipe(frames_THWC[-1], again_THWC[0], dive.wipe_frames, colour)
        yield again_THWC
        yield draw_wipe(again_THWC[-1], frames_THWC[-1], dive.wipe_frames, colour)


def _staged(
    config: BroadcastConfig, split: str, number: int, dive: PlannedDive, showing: Showing
) -> tuple[DiveMotion, Scene]:
    look = config.archive
    execution = execution_of(look.seed, split, dive.index, showing.speed)
    scene = draw_scene(
        execution,
        SceneIndices(clip=dive.index, pool=number, camera=showing.camera),
        seed=look.seed,
        split=split,
        difficulty=look.difficulty,
        size_px=look.size,
    )
    return perform(parse_dive_number(dive.label), execution), scene


def _held(motion: DiveMotion, scene: Scene, lead: int, tail: int) -> tuple[DiveMotion, Scene]:
    """The diver and the camera stand still for `lead` frames before and `tail` frames after."""

    def held(values_T: np.ndarray) -> np.ndarray:
        edges = [(lead, tail)] + [(0, 0)] * (values_T.ndim - 1)
        return np.pad(values_T, edges, mode="edge")

    execution = replace(
        motion.execution,
        frames_before=motion.execution.frames_before + lead,
        frames_after=motion.execution.frames_after + tail,
    )
    arrays = ("ends_TNEC", "fronts_TNC", "centre_TC", "angles_TA", "somersault_T", "twist_T")
    moved = {name: held(getattr(motion, name)) for name in arrays}
    camera = replace(
        scene.camera,
        rotation_TCC=held(scene.camera.rotation_TCC),
        focal_px_T=held(scene.camera.focal_px_T),
    )
    return replace(motion, execution=execution, **moved), replace(scene, camera=camera)


def _cutaway(
    config: BroadcastConfig, split: str, number: int, dive: PlannedDive, rng: np.random.Generator
) -> np.ndarray:
    """What is shown until the diver is: the empty pool from some camera, or the scoreboard over it."""
    count = dive.pause_frames - dive.lead_frames
    other = replace(dive.live, camera=dive.index + 2 + int(rng.integers(3)))
    motion, scene = _staged(config, split, number, dive, other)
    frames_THWC = render_empty(scene, board_m=motion.board_m, frame=0, num_frames=count)
    if rng.random() < _SCOREBOARD_SHARE:
        draw_scoreboard(frames_THWC, rng)
    return frames_THWC
