"""One rendered clip with the truth about the body in each of its frames, in camera coordinates.

The camera's axes are x right, y down, z away from the camera. Directions are unit vectors. Joints are in metres of a diver of
standard size, relative to the centre of mass and parallel to the picture, whatever camera, zoom and body size.
T frames, P pose numbers, H W pixels, C RGB.
"""

from dataclasses import dataclass

import numpy as np

from benchmarks.dives.motion.body import capsule_index
from benchmarks.dives.motion.execution import draw_execution
from benchmarks.dives.motion.kinematics import DiveMotion, perform
from benchmarks.dives.random_streams import open_stream
from benchmarks.dives.rendering.render import render_frames
from benchmarks.dives.rendering.scene import Scene, SceneIndices, draw_scene
from training.annotations.labels.dive_numbers import parse_dive_number

_DIRECTIONS = (
    "chest_axis",
    "chest_front",
    "pelvis_front",
    "head_axis",
    "head_front",
    "thigh_axis",
    "shin_axis",
)
_ANGLES = ("hip_cos", "knee_cos", "left_elbow_cos", "right_elbow_cos", "dry_share")
# Joint -> capsule and which of its ends.
_JOINTS: dict[str, tuple[str, int]] = {
    "head": ("head", 1),
    "neck": ("neck", 0),
    "left_elbow": ("left_upper_arm", 1),
    "right_elbow": ("right_upper_arm", 1),
    "left_hand": ("left_hand", 1),
    "right_hand": ("right_hand", 1),
    "left_hip": ("left_thigh", 0),
    "right_hip": ("right_thigh", 0),
    "left_knee": ("left_thigh", 1),
    "right_knee": ("right_thigh", 1),
    "left_ankle": ("left_shin", 1),
    "right_ankle": ("right_shin", 1),
}
POSE_COLUMNS: tuple[str, ...] = (
    *(f"{name}_{axis}" for name in _DIRECTIONS for axis in "xyz"),
    *_ANGLES,
    *(f"{name}_{axis}" for name in _JOINTS for axis in "xy"),
)
"""Names of the P = 50 pose numbers. Axes point from the hips outwards (chest, head to the crown; thigh and shin to the foot);
fronts point out of the belly, or out of the face. hip_cos is the cosine of the hip's flexion (1 = stretched), knee and elbow
likewise; dry_share is the share of the body above water."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderedClip:
    """Frames and their truth."""

    frames_THWC: np.ndarray
    """uint8 RGB."""
    pose_TP: np.ndarray
    """float32; POSE_COLUMNS names the columns."""
    centre_px_T2: np.ndarray
    """Centre of mass in pixels (x, y); it may lie outside the picture."""
    px_per_m_T: np.ndarray
    """Pixels per metre at the diver."""
    phase_T: np.ndarray
    """0 on the board, 1 in flight, 2 from the frame in which the water is touched."""
    motion: DiveMotion


def render_clip(
    label: str, *, seed: int, split: str, index: int, difficulty: str, size: int
) -> RenderedClip:
    """The clip of a dive number: same arguments, same bytes. `index` picks performance and appearance, whatever the label.

    ValueError for an unknown dive number, split or difficulty, and for a size that is odd or below 16 pixels.
    """
    motion, scene = stage_clip(
        label, seed=seed, split=split, index=index, difficulty=difficulty, size=size
    )
    return clip_of(motion, scene)


def stage_clip(
    label: str,
    *,
    seed: int,
    split: str,
    index: int,
    difficulty: str,
    size: int,
) -> tuple[DiveMotion, Scene]:
    """Motion and scene of a clip, not yet rendered."""
    if size < 16 or size % 2:
        raise ValueError(f"size is {size}; it must be an even number of pixels, at least 16")
    number = parse_dive_number(label)
    stream = open_stream(seed=seed, split=split, index=index, purpose="execution")
    execution = draw_execution(stream)
    scene = draw_scene(
        execution,
        SceneIndices(clip=index, pool=index),
        seed=seed,
        split=split,
        difficulty=difficulty,
        size_px=size,
    )
    return perform(number, execution), scene


def clip_of(motion: DiveMotion, scene: Scene) -> RenderedClip:
    """Frames and truth of a staged clip."""
    camera = scene.camera
    centre_TC = camera.to_camera(motion.centre_TC)
    px_per_m_T = camera.focal_px_T / np.maximum(centre_TC[:, 2], 0.05)
    phase_T = np.zeros(motion.num_frames, np.int8)
    phase_T[motion.execution.frames_before :] = 1
    phase_T[motion.execution.entry_frame :] = 2
    return RenderedClip(
        frames_THWC=render_frames(motion, scene),
        pose_TP=measure_pose(motion, scene),
        centre_px_T2=centre_TC[:, :2] * px_per_m_T[:, None] + camera.size_px / 2,
        px_per_m_T=px_per_m_T,
        phase_T=phase_T,
        motion=motion,
    )


def measure_pose(motion: DiveMotion, scene: Scene) -> np.ndarray:
    """float32 [T, P]: POSE_COLUMNS, in camera coordinates."""
    camera = scene.camera
    ends_TNEC, fronts_TNC = camera.to_camera(motion.ends_TNEC), camera.turn(motion.fronts_TNC)
    axis = {name: _axis(ends_TNEC, name) for name in ("chest", "head", "left_thigh", "right_thigh")}
    thigh_TC = _unit(axis["left_thigh"] + axis["right_thigh"])
    shin_TC = _unit(_axis(ends_TNEC, "left_shin") + _axis(ends_TNEC, "right_shin"))
    front = {name: fronts_TNC[:, capsule_index(name)] for name in ("chest", "pelvis", "head")}
    directions = (
        axis["chest"], front["chest"], front["pelvis"], axis["head"], front["head"], thigh_TC, shin_TC,
    )  # fmt: skip
    angles = (
        -(axis["chest"] * thigh_TC).sum(axis=1),
        (thigh_TC * shin_TC).sum(axis=1),
        _elbow_cos(ends_TNEC, "left"),
        _elbow_cos(ends_TNEC, "right"),
        (motion.ends_TNEC[..., 2] > 0).mean(axis=(1, 2)),
    )
    centre_TC = camera.to_camera(motion.centre_TC)
    joints = [
        (ends_TNEC[:, capsule_index(name), end, :2] - centre_TC[:, :2])
        / motion.execution.body_scale
        for name, end in _JOINTS.values()
    ]
    columns = [*directions, np.stack(angles, axis=1), *joints]
    return np.concatenate(columns, axis=1).astype(np.float32)


def _mirror_table() -> tuple[np.ndarray, np.ndarray]:
    def other_side(name: str) -> str:
        for side, other in (("left_", "right_"), ("right_", "left_")):
            if name.startswith(side):
                return other + name.removeprefix(side)
        return name

    order = np.array([POSE_COLUMNS.index(other_side(name)) for name in POSE_COLUMNS])
    sign = np.array([-1.0 if name.endswith("_x") else 1.0 for name in POSE_COLUMNS], np.float32)
    return order, sign


MIRROR_ORDER, MIRROR_SIGN = _mirror_table()
"""The pose of the mirrored picture is `pose[..., MIRROR_ORDER] * MIRROR_SIGN`: left and right change places."""


def _axis(ends_TNEC: np.ndarray, name: str) -> np.ndarray:
    n = capsule_index(name)
    return _unit(ends_TNEC[:, n, 1] - ends_TNEC[:, n, 0])


def _elbow_cos(ends_TNEC: np.ndarray, side: str) -> np.ndarray:
    upper, lower = _axis(ends_TNEC, f"{side}_upper_arm"), _axis(ends_TNEC, f"{side}_forearm")
    return (upper * lower).sum(axis=1)


def _unit(vectors_TC: np.ndarray) -> np.ndarray:
    return vectors_TC / np.linalg.norm(vectors_TC, axis=1, keepdims=True)
