"""A television camera beside the pool: follows the flight path, late and shaky, and projects points to pixels.

Camera frame: x right, y down, z forward, metres. T frames, C = 3 coordinates.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from benchmarks.dives.motion.execution import Execution, flight_path


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraRanges:
    """What cameras of a difficulty are drawn from."""

    max_azimuth_deg: float
    max_lag: float
    """Share of the last frame's aim that stays."""
    max_shake_m: float
    aim_error_m: float
    field_m: tuple[float, float]
    """Width of the picture at the diver."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """One clip's camera: it stands still, turns and zooms."""

    position_C: np.ndarray
    rotation_TCC: np.ndarray
    """World to camera; the rows are the camera's axes."""
    focal_px_T: np.ndarray
    size_px: int
    side: float
    """-1 or 1: the sign of y on which it stands."""

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World points [T, ..., C] -> camera coordinates."""
        return np.einsum("tij,t...j->t...i", self.rotation_TCC, points - self.position_C)

    def turn(self, directions: np.ndarray) -> np.ndarray:
        """World directions [T, ..., C] -> camera directions."""
        return np.einsum("tij,t...j->t...i", self.rotation_TCC, directions)

    def project(self, points: np.ndarray, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """World points [..., C] -> pixels [..., 2] and depth in metres, in one frame."""
        seen = (points - self.position_C) @ self.rotation_TCC[frame].T
        depth = np.maximum(seen[..., 2:], 0.05)
        return seen[..., :2] / depth * self.focal_px_T[frame] + self.size_px / 2, seen[..., 2]


def draw_camera(
    rng: np.random.Generator, execution: Execution, ranges: CameraRanges, *, size_px: int
) -> Camera:
    """A camera for this flight path; what the body does is not looked at."""
    path_TC, board_m = flight_path(execution)
    side = -1.0 if rng.random() < 0.5 else 1.0
    azimuth = np.radians(rng.uniform(-ranges.max_azimuth_deg, ranges.max_azimuth_deg))
    distance_m = rng.uniform(9, 16)
    target_TC = _follow(rng, path_TC, ranges)
    height_m = rng.uniform(1.2, max(1.5, board_m + 1))
    position_C = np.array(
        [distance_m * np.sin(azimuth) + 0.8, side * distance_m * np.cos(azimuth), height_m]
    )
    focal = distance_m / rng.uniform(*ranges.field_m)
    zoom_T = np.exp(np.linspace(0, rng.normal(0, 0.10), len(path_TC)))
    return Camera(
        position_C=position_C,
        rotation_TCC=_look_at(target_TC - position_C, roll=np.radians(rng.normal(0, 2.0))),
        focal_px_T=focal * zoom_T * size_px,
        size_px=size_px,
        side=side,
    )


def _follow(rng: np.random.Generator, path_TC: np.ndarray, ranges: CameraRanges) -> np.ndarray:
    target_TC = path_TC.copy()
    target_TC[:, 2] = np.maximum(target_TC[:, 2], 0.2)
    lag = rng.uniform(0, ranges.max_lag)
    for t in range(1, len(target_TC)):
        target_TC[t] = lag * target_TC[t - 1] + (1 - lag) * target_TC[t]
    shake_TC = rng.normal(0, 1, target_TC.shape).astype(np.float32)
    shake_TC = cv2.GaussianBlur(shake_TC, (1, 0), sigmaX=0.1, sigmaY=5)
    shake_TC = shake_TC * rng.uniform(0, ranges.max_shake_m)
    return target_TC + shake_TC + rng.normal(0, (1.0, 0.0, 1.0)) * ranges.aim_error_m


def _look_at(forward_TC: np.ndarray, *, roll: float) -> np.ndarray:
    forward_TC = forward_TC / np.linalg.norm(forward_TC, axis=1, keepdims=True)
    right_TC = np.cross(forward_TC, [0.0, 0.0, 1.0])
    right_TC /= np.linalg.norm(right_TC, axis=1, keepdims=True)
    down_TC = np.cross(forward_TC, right_TC)
    c, s = np.cos(roll), np.sin(roll)
    rolled = (c * right_TC + s * down_TC, c * down_TC - s * right_TC, forward_TC)
    return np.stack(rolled, axis=1)
