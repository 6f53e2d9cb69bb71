"""The diver's body: 17 capsules, ten joint angles, and where the capsules are for given angles.

Body frame, metres: x out of the belly, y to the left, z from the hips to the head; the centre of mass is the origin.
T frames, N capsules, E = 2 capsule ends, A = 10 angles, C = 3 coordinates.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class Capsule:
    """A rounded cone; the first end is the one nearer to the hips or shoulders."""

    name: str
    first_radius_m: float
    last_radius_m: float
    mass_kg: float


def _capsules(*rows: tuple[str, float, float, float]) -> tuple[Capsule, ...]:
    return tuple(
        Capsule(name=name, first_radius_m=first, last_radius_m=last, mass_kg=mass)
        for name, first, last, mass in rows
    )


_TRUNK = _capsules(
    ("pelvis", 0.125, 0.115, 9),
    ("abdomen", 0.115, 0.135, 8),
    ("chest", 0.15, 0.13, 14),
    ("neck", 0.06, 0.06, 1),
    ("head", 0.105, 0.115, 5),
)
_LIMBS = (
    ("{}_upper_arm", 0.055, 0.045, 2.0),
    ("{}_forearm", 0.045, 0.036, 1.4),
    ("{}_hand", 0.040, 0.030, 0.5),
    ("{}_thigh", 0.092, 0.066, 8.5),
    ("{}_shin", 0.062, 0.043, 3.6),
    ("{}_foot", 0.045, 0.030, 1.0),
)
CAPSULES: tuple[Capsule, ...] = _TRUNK + _capsules(
    *(
        (name.format(side), *numbers)
        for side in ("left", "right")
        for name, *numbers in _LIMBS  # pyright: ignore[reportArgumentType]
    )
)
CAPSULE_NAMES: tuple[str, ...] = tuple(capsule.name for capsule in CAPSULES)
RADII_NE = np.array([[c.first_radius_m, c.last_radius_m] for c in CAPSULES])
_MASS_N = np.array([c.mass_kg for c in CAPSULES])
_MASS_SHARE_N = _MASS_N / _MASS_N.sum()

ANGLES: tuple[str, ...] = (
    "hip",  # flexion of both hips
    "knee",
    "spine",  # flexion, half of it below the chest
    "left_raise",  # arm: 0 hangs along the body, 90 points forward, 180 overhead
    "left_spread",  # arm: away from the middle
    "left_elbow",
    "right_raise",
    "right_spread",
    "right_elbow",
    "neck",  # positive bows the head
)


def capsule_index(name: str) -> int:
    """Place of a capsule on the N axis."""
    return CAPSULE_NAMES.index(name)


def _pose(
    legs: tuple[float, float], spine: float, arms: tuple[float, ...], neck: float
) -> np.ndarray:
    """Angles in degrees; `arms` is one arm's (raise, spread, elbow), or both, left first."""
    both = arms if len(arms) == 6 else arms * 2
    return np.array([*legs, spine, *both, neck], dtype=np.float64)


POSES: dict[str, np.ndarray] = {
    "stand": _pose((0, 0), 0, (10, 12, 5), 0),
    "reach": _pose((0, 0), -5, (172, 14, 0), -8),
    "crouch": _pose((55, 75), 15, (-35, 15, 10), 0),
    "pike": _pose((118, 2), 42, (78, 6, 8), 25),
    "tuck": _pose((112, 132), 42, (48, 10, 35), 28),
    "straight": _pose((0, 0), 0, (12, 10, 8), 5),
    "twist": _pose((2, 3), 0, (165, 12, 95, 62, -18, 118), 5),
    "head_first": _pose((0, 0), 0, (178, 4, 0), 0),
    "feet_first": _pose((0, 0), 0, (6, 5, 2), 0),
}


def rotation_x(angle_T: np.ndarray) -> np.ndarray:
    """[..., 3, 3] turning about x: y towards z."""
    c, s, zero, unit = (
        np.cos(angle_T),
        np.sin(angle_T),
        np.zeros_like(angle_T),
        np.ones_like(angle_T),
    )
    return _matrix((unit, zero, zero), (zero, c, -s), (zero, s, c))


def rotation_y(angle_T: np.ndarray) -> np.ndarray:
    """[..., 3, 3] turning about y: z towards x, so a positive angle bows forward."""
    c, s, zero, unit = (
        np.cos(angle_T),
        np.sin(angle_T),
        np.zeros_like(angle_T),
        np.ones_like(angle_T),
    )
    return _matrix((c, zero, s), (zero, unit, zero), (-s, zero, c))


def rotation_z(angle_T: np.ndarray) -> np.ndarray:
    """[..., 3, 3] turning about z: x towards y."""
    c, s, zero, unit = (
        np.cos(angle_T),
        np.sin(angle_T),
        np.zeros_like(angle_T),
        np.ones_like(angle_T),
    )
    return _matrix((c, -s, zero), (s, c, zero), (zero, zero, unit))


def _matrix(*rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


class _Skeleton:
    """Collects capsules of all frames while forward_kinematics walks from the hips outwards."""

    def __init__(self, num_frames: int) -> None:
        self.num_frames = num_frames
        self.ends: dict[str, np.ndarray] = {}
        self.fronts: dict[str, np.ndarray] = {}

    def add(self, name: str, first_TC: np.ndarray, last_TC: np.ndarray, frame: np.ndarray) -> None:
        shape = (self.num_frames, 3)
        self.ends[name] = np.stack(
            [np.broadcast_to(first_TC, shape), np.broadcast_to(last_TC, shape)], axis=1
        )
        self.fronts[name] = frame[:, :, 0]


def forward_kinematics(angles_TA: np.ndarray, *, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Angles in degrees -> capsule ends [T, N, E, C] and each capsule's outward front [T, N, C], in the body frame."""
    angle = dict(zip(ANGLES, np.radians(angles_TA).T, strict=True))
    body = _Skeleton(len(angles_TA))
    chest_at_TC, chest = _add_trunk(body, angle)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        _add_arm(body, angle, side=side, sign=sign, chest_at_TC=chest_at_TC, chest=chest)
        _add_leg(body, angle, side=side, sign=sign)
    ends_TNEC = np.stack([body.ends[name] for name in CAPSULE_NAMES], axis=1) * scale
    fronts_TNC = np.stack([body.fronts[name] for name in CAPSULE_NAMES], axis=1)
    centre_TC = np.einsum("n,tnc->tc", _MASS_SHARE_N, ends_TNEC.mean(axis=2))
    return ends_TNEC - centre_TC[:, None, None], fronts_TNC


def inertia_about_y(ends_TNEC: np.ndarray) -> np.ndarray:
    """Moment of inertia [T] against somersaulting, capsule by capsule as point masses, in kg m^2."""
    middle_TNC = ends_TNEC.mean(axis=2)
    return np.einsum("n,tn->t", _MASS_N, middle_TNC[..., 0] ** 2 + middle_TNC[..., 2] ** 2)


def _at(frame: np.ndarray, x: float, y: float, z: float) -> np.ndarray:
    """The vector (x, y, z) of a limb's frame [T, 3, 3], in body coordinates [T, 3]."""
    return frame @ np.array([x, y, z])


def _add_trunk(body: _Skeleton, angle: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Adds pelvis to head; returns where the chest begins and how it is turned."""
    hips = rotation_y(np.zeros(body.num_frames))
    belly, chest = rotation_y(angle["spine"] / 2), rotation_y(angle["spine"])
    head = chest @ rotation_y(angle["neck"])
    chest_at = _at(hips, 0, 0, 0.10) + _at(belly, 0, 0, 0.17)
    neck_at = chest_at + _at(chest, 0, 0, 0.27)
    head_at = neck_at + _at(head, 0.01, 0, 0.07)
    body.add("pelvis", _at(hips, 0, 0.045, 0), _at(hips, 0, -0.045, 0.03), hips)
    body.add("abdomen", _at(hips, 0, 0, 0.06), chest_at, belly)
    body.add("chest", chest_at + _at(chest, 0, 0, 0.02), chest_at + _at(chest, 0, 0, 0.19), chest)
    body.add("neck", neck_at - _at(chest, 0, 0, 0.05), head_at, head)
    body.add("head", head_at + _at(head, 0.015, 0, 0.05), head_at + _at(head, 0, 0, 0.11), head)
    return chest_at, chest


def _add_arm(
    body: _Skeleton,
    angle: dict[str, np.ndarray],
    *,
    side: str,
    sign: float,
    chest_at_TC: np.ndarray,
    chest: np.ndarray,
) -> None:
    upper = chest @ rotation_y(-angle[f"{side}_raise"]) @ rotation_x(angle[f"{side}_spread"] * sign)
    lower = upper @ rotation_y(-angle[f"{side}_elbow"])
    shoulder = chest_at_TC + _at(chest, 0, 0.175 * sign, 0.205)
    elbow = shoulder + _at(upper, 0, 0, -0.28)
    wrist = elbow + _at(lower, 0, 0, -0.25)
    body.add(f"{side}_upper_arm", shoulder, elbow, upper)
    body.add(f"{side}_forearm", elbow, wrist, lower)
    body.add(f"{side}_hand", wrist, wrist + _at(lower, 0, 0, -0.13), lower)


def _add_leg(body: _Skeleton, angle: dict[str, np.ndarray], *, side: str, sign: float) -> None:
    upper = rotation_y(-angle["hip"])
    lower = upper @ rotation_y(angle["knee"])
    pointed = lower @ rotation_y(np.full(body.num_frames, np.radians(-12.0)))
    hip = np.array([0, 0.085 * sign, -0.02])
    knee = hip + _at(upper, 0, -0.015 * sign, -0.42)
    ankle = knee + _at(lower, 0, -0.02 * sign, -0.41)
    body.add(f"{side}_thigh", hip, knee, upper)
    body.add(f"{side}_shin", knee, ankle, lower)
    body.add(f"{side}_foot", ankle, ankle + _at(pointed, 0, 0, -0.19), lower)
