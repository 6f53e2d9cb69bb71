"""How one diver performs, whatever the dive: pace, power, timing and style.

Everything here is drawn without knowing the class: clip length, speed, and when rotation and twist begin and end say nothing
about what is performed. `u` is flight progress: 0 at take-off, 1 when hands or feet touch the water.
"""

from dataclasses import dataclass

import numpy as np

from benchmarks.dives.motion.body import ANGLES

FPS = 25
GRAVITY_M_PER_S2 = 9.81
POSE_SLOTS = ("start", "crouch", "reach", "shape", "twist", "late_shape", "entry")


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """One performance. Frames are video frames; flight is shown in slow motion, as sports television does."""

    frames_before: int
    frames_flight: int
    frames_after: int
    flight_s: float
    """Physical time in the air."""
    rise_m_per_s: float
    drift_m_per_s: float
    body_scale: float
    sideways_m: float
    starts_reaching: bool
    crouch_depth: float
    lean_rad: float
    facing_error_rad: float
    rotation_error_rad: float
    rotation_start: float
    rotation_ramp: float
    rotation_end: float
    shape_start: float
    shape_ramp: float
    flying_shape_start: float
    opening: float
    plain_shape_start: float
    plain_opening: float
    twist_start: float
    twist_end_free: float
    twist_end_shaped: float
    twist_sign: float
    tilt_rad: float
    pose_noise: np.ndarray
    """[slot, angle] standard normal; POSE_SLOTS names the rows."""

    @property
    def num_frames(self) -> int:
        return self.frames_before + self.frames_flight + self.frames_after

    @property
    def entry_frame(self) -> int:
        """The first frame at which hands or feet are in the water."""
        return self.frames_before + self.frames_flight

    @property
    def flight_progress(self) -> np.ndarray:
        """u for each frame."""
        return (np.arange(self.num_frames) - self.frames_before) / self.frames_flight


def draw_execution(rng: np.random.Generator) -> Execution:
    """One performance of any dive."""
    uniform, normal = rng.uniform, rng.normal
    return Execution(
        frames_before=int(rng.integers(6, 11)),
        frames_flight=int(rng.integers(36, 49)),
        frames_after=int(rng.integers(5, 9)),
        flight_s=uniform(1.25, 1.7),
        rise_m_per_s=uniform(2.2, 4.2),
        drift_m_per_s=uniform(0.8, 1.5),
        body_scale=uniform(0.92, 1.06),
        sideways_m=normal(0, 0.02),
        starts_reaching=bool(rng.random() < 0.5),
        crouch_depth=uniform(0.5, 1.0),
        lean_rad=np.radians(uniform(4, 12)),
        facing_error_rad=np.radians(normal(0, 4)),
        rotation_error_rad=np.radians(normal(0, 5)),
        rotation_start=uniform(-0.04, 0.06),
        rotation_ramp=uniform(0.05, 0.14),
        rotation_end=uniform(0.94, 1.0),
        shape_start=uniform(0.05, 0.13),
        shape_ramp=uniform(0.09, 0.16),
        flying_shape_start=uniform(0.34, 0.44),
        opening=uniform(0.77, 0.87),
        plain_shape_start=0.22 + float(np.clip(normal(0, 0.02), -0.05, 0.05)),
        plain_opening=0.55 + float(np.clip(normal(0, 0.03), -0.07, 0.07)),
        twist_start=uniform(0.04, 0.10),
        twist_end_free=uniform(0.74, 0.82),
        twist_end_shaped=uniform(0.45, 0.56),
        twist_sign=1.0 if rng.random() < 0.5 else -1.0,
        tilt_rad=np.radians(uniform(6, 12)),
        pose_noise=rng.standard_normal((len(POSE_SLOTS), len(ANGLES))),
    )


def flight_path(execution: Execution) -> tuple[np.ndarray, float]:
    """Path of the centre of mass [T, 3] as it would be for a stiff body, and the height of the board, in metres.

    The water is z = 0, the board ends at x = 0 and the dive goes towards +x. Before take-off the path stands still. Cameras
    follow this path, not the body: what they do tells nothing about the dive.
    """
    e = execution
    touch_m = 1.0 * e.body_scale
    start_m = touch_m - e.rise_m_per_s * e.flight_s + GRAVITY_M_PER_S2 / 2 * e.flight_s**2
    board_m = start_m - 1.12 * e.body_scale
    time_s = e.flight_progress * e.flight_s
    flown_s = np.maximum(time_s, 0)
    x = e.drift_m_per_s * flown_s
    z = start_m + e.rise_m_per_s * flown_s - GRAVITY_M_PER_S2 / 2 * flown_s**2
    sinking_m_per_s = e.rise_m_per_s - GRAVITY_M_PER_S2 * e.flight_s
    z = np.where(time_s > e.flight_s, touch_m + sinking_m_per_s * 0.85 * (time_s - e.flight_s), z)
    return np.stack([x, np.full_like(x, e.sideways_m), z], axis=1), board_m
