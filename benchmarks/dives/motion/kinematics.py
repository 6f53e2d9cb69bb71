"""A dive number and an execution -> where the body is in every frame.

World frame, metres: x away from the board, z up, water at z = 0. The body turns by Ry(somersault) Rx(tilt) Rz(facing + twist):
somersaults about the world's y, twists about the body's own long axis.
T frames, N capsules, E = 2 capsule ends, A joint angles, C = 3 coordinates.

Known and kept: dives of at most one half-somersault (101b, 401b) take their shape late and open early, as real ones do, so that
their pose timing differs from that of other dives.
"""

from dataclasses import dataclass

import numpy as np

from benchmarks.dives.motion.body import (
    POSES,
    capsule_index,
    forward_kinematics,
    inertia_about_y,
    rotation_x,
    rotation_y,
    rotation_z,
)
from benchmarks.dives.motion.execution import POSE_SLOTS, Execution, flight_path
from training.annotations.labels.dive_numbers import DiveNumber

_CAREFUL_POSES = ("reach", "head_first", "feet_first", "straight")
_MIN_RELATIVE_INERTIA = 0.08

Key = tuple[float, float, np.ndarray]
"""From u, to u, angles: the pose blends into `angles` between them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DiveMotion:
    """Where the body is in every frame of a clip."""

    number: DiveNumber
    execution: Execution
    ends_TNEC: np.ndarray
    """Capsule ends, world metres."""
    fronts_TNC: np.ndarray
    """Outward direction of each capsule's front (belly side), world."""
    centre_TC: np.ndarray
    """Centre of mass, world metres."""
    angles_TA: np.ndarray
    """Joint angles in degrees."""
    somersault_T: np.ndarray
    """Radians turned about the world's y since the start, positive towards +x at the head."""
    twist_T: np.ndarray
    """Radians turned about the long axis since the start, positive to the diver's left."""
    board_m: float

    @property
    def num_frames(self) -> int:
        return len(self.centre_TC)


def perform(number: DiveNumber, execution: Execution) -> DiveMotion:
    """The dive as this execution shows it."""
    e, u = execution, execution.flight_progress
    angles_TA = _blend(u, _pose_keys(number, e))
    ends_TNEC, fronts_TNC = forward_kinematics(angles_TA, scale=e.body_scale)
    # Rotation away from the board is positive; reverse and inward dives turn back towards it.
    direction = 1.0 if number.take_off in ("forward", "back") else -1.0
    somersault_T = direction * _somersault(number, e, inertia_about_y(ends_TNEC))
    twist_T, tilt_T = _twist(number, e)
    turn_T = _body_rotation(number, e, somersault_T, twist_T, tilt_T)
    ends_TNEC = np.einsum("tij,tnej->tnei", turn_T, ends_TNEC)
    centre_TC, board_m = flight_path(e)
    centre_TC = _stand_on_board(centre_TC, ends_TNEC, number=number, execution=e, board_m=board_m)
    return DiveMotion(
        number=number,
        execution=e,
        ends_TNEC=ends_TNEC + centre_TC[:, None, None],
        fronts_TNC=np.einsum("tij,tnj->tni", turn_T, fronts_TNC),
        centre_TC=centre_TC,
        angles_TA=angles_TA,
        somersault_T=somersault_T,
        twist_T=twist_T,
        board_m=board_m,
    )


def smooth_step(x: np.ndarray) -> np.ndarray:
    """0 to 1 with zero velocity and acceleration at both ends."""
    x = np.clip(x, 0, 1)
    return x * x * x * (x * (6 * x - 15) + 10)


def steady_ramp(x: np.ndarray, softness: float = 0.12) -> np.ndarray:
    """0 to 1 at nearly constant speed with soft ends."""
    x = np.clip(x, 0, 1)
    rising, falling = x**2 / (2 * softness), (1 - x) ** 2 / (2 * softness)
    ramp = np.where(x < softness, rising, x - softness / 2)
    return np.where(x > 1 - softness, (1 - softness) - falling, ramp) / (1 - softness)


def _pose_keys(number: DiveNumber, e: Execution) -> list[Key]:
    keys = _board_keys(number, e)
    shape = "straight" if number.position == "free" else number.position
    entry = _styled("head_first" if number.enters_head_first else "feet_first", "entry", e, 4)
    if number.half_twists:
        end = e.twist_end_free if shape == "straight" else e.twist_end_shaped
        keys.append((e.twist_start - 0.02, e.twist_start + 0.09, _styled("twist", "twist", e, 7)))
        keys.append((end - 0.04, end + 0.05, _styled(shape, "shape", e, 7)))
        opening = min(e.opening + 0.01, 0.86) if shape == "straight" else e.opening
        keys.append((opening, 0.95 if shape == "straight" else opening + 0.10, entry))
        return keys
    opening = e.opening
    if shape == "straight":
        keys.append((e.shape_start, e.shape_start + e.shape_ramp, _styled(shape, "shape", e, 6)))
    elif number.half_somersaults <= 1:
        opening = e.plain_opening
        keys.append((e.plain_shape_start, 0.40, _styled(shape, "shape", e, 6)))
    elif number.flying:
        # A flying dive shows the straight position until about half-way.
        flat, late = _styled("straight", "shape", e, 6), _styled(shape, "late_shape", e, 6)
        keys.append((e.shape_start, e.shape_start + e.shape_ramp, flat))
        keys.append((e.flying_shape_start, e.flying_shape_start + e.shape_ramp, late))
    else:
        keys.append((e.shape_start, e.shape_start + e.shape_ramp, _styled(shape, "shape", e, 6)))
    keys.append((opening, opening + 0.12, entry))
    return keys


def _board_keys(number: DiveNumber, e: Execution) -> list[Key]:
    """Before take-off: a held armstand, or a crouch and a swing of the arms."""
    if number.armstand:
        return [(0, 0, _styled("head_first", "start", e, 3))]
    first_u = -e.frames_before / e.frames_flight
    crouch = _styled("crouch", "crouch", e, 6)
    crouch[:3] *= e.crouch_depth
    return [
        (0, 0, _styled("reach" if e.starts_reaching else "stand", "start", e, 5)),
        (first_u, first_u * 0.45, crouch),
        (first_u * 0.45, 0.0, _styled("reach", "reach", e, 5)),
    ]


def _styled(pose: str, slot: str, e: Execution, spread_deg: float) -> np.ndarray:
    """A pose as this diver shows it: noise on every angle, both arms alike except in the asymmetric twist."""
    noise = e.pose_noise[POSE_SLOTS.index(slot)] * spread_deg
    if pose in _CAREFUL_POSES:
        noise = noise * 0.5
    noise = noise.copy()
    noise[[4, 7]] *= 0.5  # spread of the arms
    if pose != "twist":
        noise[6:9] = noise[3:6] + 0.3 * noise[6:9]
    return POSES[pose] + noise


def _blend(u_T: np.ndarray, keys: list[Key]) -> np.ndarray:
    angles_TA = np.repeat(keys[0][2][None], len(u_T), axis=0)
    for start, end, pose in keys[1:]:
        weight_T1 = smooth_step((u_T - start) / max(end - start, 1e-6))[:, None]
        angles_TA = angles_TA * (1 - weight_T1) + pose * weight_T1
    return angles_TA


def _somersault(number: DiveNumber, e: Execution, inertia_T: np.ndarray) -> np.ndarray:
    """Constant angular momentum: a small body turns fast. The same law and onset for every dive."""
    u = e.flight_progress
    speed_T = 1 / (inertia_T / inertia_T.max() + _MIN_RELATIVE_INERTIA)
    speed_T = speed_T * smooth_step((u - e.rotation_start) / e.rotation_ramp)
    speed_T = speed_T * (1 - smooth_step((u - e.rotation_end + 0.04) / 0.08))
    turned_T = np.cumsum(speed_T)
    total = number.half_somersaults * np.pi + e.rotation_error_rad
    return turned_T / turned_T[-1] * total


def _twist(number: DiveNumber, e: Execution) -> tuple[np.ndarray, np.ndarray]:
    """Twist and tilt [T]. The phase is as long for half a twist as for three and a half."""
    u = e.flight_progress
    if not number.half_twists:
        return np.zeros_like(u), np.zeros_like(u)
    is_shaped = number.position in ("pike", "tuck")
    end = e.twist_end_shaped if is_shaped else e.twist_end_free
    start = e.twist_start + 0.02
    total = e.twist_sign * number.half_twists * np.pi
    twist_T = total * steady_ramp((u - start) / (end + 0.03 - start))
    fade_T = smooth_step((u - e.twist_start) / 0.08) * (1 - smooth_step((u - end) / 0.1))
    return twist_T, e.twist_sign * e.tilt_rad * fade_T


def _body_rotation(
    number: DiveNumber,
    e: Execution,
    somersault_T: np.ndarray,
    twist_T: np.ndarray,
    tilt_T: np.ndarray,
) -> np.ndarray:
    """[T, 3, 3] from the body frame to the world."""
    u = e.flight_progress
    # Forward and reverse divers face the water, back and inward divers the board. An armstand is the same, upside down.
    facing = 0.0 if number.take_off in ("forward", "reverse") else np.pi
    bow_T = somersault_T
    if number.armstand:
        bow_T = bow_T + np.pi
    else:
        direction = 1.0 if number.take_off in ("forward", "back") else -1.0
        lean_T = smooth_step((u + 0.12) / 0.12) * (1 - smooth_step((u - 0.1) / 0.2))
        bow_T = bow_T + direction * e.lean_rad * lean_T
    return (
        rotation_y(bow_T) @ rotation_x(tilt_T) @ rotation_z(facing + twist_T + e.facing_error_rad)
    )


def _stand_on_board(
    centre_TC: np.ndarray,
    ends_TNEC: np.ndarray,
    *,
    number: DiveNumber,
    execution: Execution,
    board_m: float,
) -> np.ndarray:
    """Keeps feet (or hands) on the board before take-off and joins the stiff body's path without a jump."""
    limb = "hand" if number.armstand else "foot"
    tips = ends_TNEC[:, [capsule_index(f"left_{limb}"), capsule_index(f"right_{limb}")], 1, 2]
    before = execution.frames_before
    centre_TC = centre_TC.copy()
    centre_TC[:, 0] -= 0.25 if number.armstand else 0.12
    start_m = centre_TC[0, 2]
    standing_m = board_m + 0.03 - tips[:before].min(axis=1)
    joined = smooth_step((np.arange(before) + 1) / before)
    centre_TC[:before, 2] = standing_m + (start_m - standing_m[-1]) * joined * 0.9
    return centre_TC
