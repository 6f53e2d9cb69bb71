"""The body really turns as often as the dive number says, measured on the body and not on the plan."""

import numpy as np
import pytest

from benchmarks.dives.motion.body import capsule_index
from benchmarks.dives.motion.execution import draw_execution
from benchmarks.dives.motion.kinematics import DiveMotion, perform
from benchmarks.dives.random_streams import open_stream
from training.annotations.labels.dive_numbers import DIVE_CLASSES, parse_dive_number

TOLERANCE_RAD = 0.75  # lean, errors of the performance, and what is left of the pose at entry


def motion_of(label: str, index: int) -> DiveMotion:
    stream = open_stream(seed=3, split="test", index=index, purpose="execution")
    return perform(parse_dive_number(label), draw_execution(stream))


def chest_frame(motion: DiveMotion) -> tuple[np.ndarray, np.ndarray]:
    chest = capsule_index("chest")
    axis_TC = motion.ends_TNEC[:, chest, 1] - motion.ends_TNEC[:, chest, 0]
    return axis_TC, motion.fronts_TNC[:, chest]


def total_turn(angles_T: np.ndarray) -> float:
    unwrapped = np.unwrap(angles_T)
    return float(unwrapped[-1] - unwrapped[0])


@pytest.mark.parametrize("label", DIVE_CLASSES)
def test_somersaults_are_half_turns_of_the_long_axis(label: str) -> None:
    number = parse_dive_number(label)
    away = 1 if number.take_off in ("forward", "back") else -1
    for index in range(3):
        axis_TC, _ = chest_frame(motion_of(label, index))
        turn = total_turn(np.arctan2(axis_TC[:, 0], axis_TC[:, 2]))
        assert turn == pytest.approx(away * number.half_somersaults * np.pi, abs=TOLERANCE_RAD)


@pytest.mark.parametrize(
    "label", [code for code in DIVE_CLASSES if parse_dive_number(code).half_twists]
)
def test_twists_are_half_turns_about_the_long_axis(label: str) -> None:
    for index in range(3):
        axis_TC, front_TC = chest_frame(motion_of(label, index))
        in_plane_TC = np.cross(axis_TC, [0.0, 1.0, 0.0])
        in_plane_TC /= np.linalg.norm(in_plane_TC, axis=1, keepdims=True)
        turn = total_turn(np.arctan2(front_TC[:, 1], (front_TC * in_plane_TC).sum(axis=1)))
        assert abs(turn) == pytest.approx(
            parse_dive_number(label).half_twists * np.pi, abs=TOLERANCE_RAD
        )


@pytest.mark.parametrize("label", DIVE_CLASSES)
def test_entry_is_head_or_feet_first_as_the_parity_says(label: str) -> None:
    motion = motion_of(label, 7)
    at_entry = motion.ends_TNEC[motion.execution.entry_frame]
    head_m = at_entry[capsule_index("head"), 1, 2]
    foot_m = at_entry[capsule_index("left_foot"), 1, 2]
    assert (head_m < foot_m) == parse_dive_number(label).enters_head_first


def test_no_limb_changes_its_length() -> None:
    motion = motion_of("5253b", 1)
    lengths_TN = np.linalg.norm(motion.ends_TNEC[:, :, 1] - motion.ends_TNEC[:, :, 0], axis=2)
    limbs = [capsule_index(name) for name in ("left_thigh", "right_forearm", "left_shin")]
    assert np.ptp(lengths_TN[:, limbs], axis=0).max() < 1e-9


def test_nothing_but_the_body_knows_the_class() -> None:
    for index in range(5):
        one, other = motion_of("103b", index), motion_of("409c", index)
        assert one.num_frames == other.num_frames
        assert one.execution.entry_frame == other.execution.entry_frame
        assert one.board_m == other.board_m
