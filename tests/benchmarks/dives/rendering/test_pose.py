"""The truth about a frame agrees with its picture: joints lie where they project, and fronts show their colour."""

from dataclasses import replace

import numpy as np

from benchmarks.dives.motion.body import CAPSULE_NAMES, capsule_index
from benchmarks.dives.rendering.pose import (
    MIRROR_ORDER,
    MIRROR_SIGN,
    POSE_COLUMNS,
    RenderedClip,
    clip_of,
    measure_pose,
    stage_clip,
)
from benchmarks.dives.rendering.scene import Scene

SIZE = 96
RED, BLUE = np.array([230.0, 10.0, 10.0]), np.array([10.0, 10.0, 230.0])


def column(name: str) -> int:
    return POSE_COLUMNS.index(name)


def red_and_blue(label: str, index: int) -> tuple[Scene, RenderedClip]:
    """A clip whose diver is red in front and blue behind, in white light without grain."""
    motion, scene = stage_clip(
        label, seed=0, split="val", index=index, difficulty="open", size=SIZE
    )
    shape = (len(CAPSULE_NAMES), 1)
    diver = replace(
        scene.diver,
        front_NC=np.tile(RED, shape).astype(np.float32),
        back_NC=np.tile(BLUE, shape).astype(np.float32),
        suit_leg_share=0.0,
    )
    light = replace(
        scene.light, noise=0.0, logo=None, gain=1.0, tint_C=np.ones(3, np.float32), ambient=0.6
    )
    scene = replace(scene, diver=diver, light=light)
    return scene, clip_of(motion, scene)


def test_joints_of_the_pose_lie_where_the_camera_sees_them() -> None:
    scene, clip = red_and_blue("5235d", 4)
    for joint, capsule in (("left_hand", "left_hand"), ("right_knee", "right_thigh")):
        relative_m = clip.pose_TP[:, [column(f"{joint}_x"), column(f"{joint}_y")]]
        scale_px_T1 = (clip.px_per_m_T * clip.motion.execution.body_scale)[:, None]
        from_pose_T2 = clip.centre_px_T2 + relative_m * scale_px_T1
        world_TC = clip.motion.ends_TNEC[:, capsule_index(capsule), 1]
        seen_T2 = np.stack([scene.camera.project(point, t)[0] for t, point in enumerate(world_TC)])
        # The pose is parallel to the picture, the camera sees in perspective from 9 m and more.
        assert np.abs(from_pose_T2 - seen_T2).max() < 0.1 * SIZE


def test_turned_hips_show_the_colour_of_their_side() -> None:
    num_right = num_seen = 0
    for index in range(3):
        scene, clip = red_and_blue("5237d", index)
        hips_TC = clip.motion.ends_TNEC[:, capsule_index("pelvis")].mean(axis=1)
        towards_camera_T = -clip.pose_TP[:, column("pelvis_front_z")]
        for t in np.flatnonzero((clip.phase_T == 1) & (np.abs(towards_camera_T) > 0.6)):
            x, y = scene.camera.project(hips_TC[t], t)[0].astype(int)
            if not (0 <= x < SIZE and 0 <= y < SIZE):
                continue
            red, _, blue = clip.frames_THWC[t, y, x].astype(int)
            num_seen += 1
            num_right += (red > blue) == (towards_camera_T[t] > 0)
    assert num_seen > 20
    assert num_right / num_seen > 0.9  # now and then an arm lies before the hips


def test_half_twists_are_seen_as_changes_between_front_and_back() -> None:
    scene, clip = red_and_blue("5337d", 1)
    flight = np.flatnonzero(clip.phase_T == 1)
    is_front = clip.pose_TP[flight, column("chest_front_z")] < 0
    num_changes = int((is_front[1:] != is_front[:-1]).sum())
    assert 6 <= num_changes <= 9  # seven half twists, and a body that ends edge-on may add one
    assert np.allclose(measure_pose(clip.motion, scene), clip.pose_TP)


def test_mirroring_the_pose_is_mirroring_the_picture() -> None:
    _, clip = red_and_blue("5152b", 2)
    pose_TP = clip.pose_TP
    mirrored_TP = pose_TP[:, MIRROR_ORDER] * MIRROR_SIGN
    assert np.array_equal(mirrored_TP[:, MIRROR_ORDER] * MIRROR_SIGN, pose_TP)
    assert np.array_equal(
        mirrored_TP[:, column("left_hand_x")], -pose_TP[:, column("right_hand_x")]
    )
    assert np.array_equal(mirrored_TP[:, column("left_hand_y")], pose_TP[:, column("right_hand_y")])
    assert np.array_equal(
        mirrored_TP[:, column("chest_front_z")], pose_TP[:, column("chest_front_z")]
    )
