"""What stands around the diver: board and post, and the splash. Drawn into a uint8 picture in place."""

import cv2
import numpy as np

from benchmarks.dives.motion.execution import FPS
from benchmarks.dives.motion.kinematics import DiveMotion
from benchmarks.dives.rendering.scene import Scene

_SHIFT = 4
"""OpenCV takes coordinates as integers of 1 / 2**4 pixel."""
_ONE = 1 << _SHIFT
_FOAM = (235.0, 242.0, 245.0)
_DROP = (240.0, 246.0, 250.0)
# Corners of a box are numbered x, y, z from low to high; each face with its outward normal.
_FACES = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))
_NORMALS = np.array([[-1, 0, 0], [1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]], float)

Range = tuple[float, float]


def draw_board(picture: np.ndarray, scene: Scene, *, board_m: float, frame: int) -> None:
    """The board or platform with its post; its end is x = 0, its top `board_m` above the water."""
    half_width, thickness = (1.1, 0.28) if scene.board.is_platform else (0.26, 0.06)
    post_x, post_y = ((-4.4, -3.2), 0.6) if scene.board.is_platform else ((-3.0, -2.6), 0.2)
    top = (board_m - thickness, board_m)
    _draw_box(
        picture, scene, frame, (post_x, (-post_y, post_y), (0, top[0])), scene.board.post_colour_C
    )
    _draw_box(
        picture, scene, frame, ((-6, 0), (-half_width, half_width), top), scene.board.colour_C
    )


def _draw_box(
    picture: np.ndarray,
    scene: Scene,
    frame: int,
    ranges: tuple[Range, Range, Range],
    colour_C: np.ndarray,
) -> None:
    corners = np.array([[x, y, z] for x in ranges[0] for y in ranges[1] for z in ranges[2]], float)
    faces = corners[np.array(_FACES)]
    from_camera = scene.camera.position_C - faces.mean(axis=1)
    is_visible = (from_camera * _NORMALS).sum(axis=1) > 0
    light = scene.light
    for i in np.argsort(-np.linalg.norm(from_camera, axis=1)):
        pixels, depth = scene.camera.project(faces[i], frame)
        if not is_visible[i] or (depth < 0.3).any():
            continue
        brightness = light.ambient + 0.6 * max(0.0, float(_NORMALS[i] @ light.direction_C))
        corners_px = np.round(np.clip(pixels, -2000, 2000) * _ONE).astype(np.int32)
        rgb = np.clip(colour_C * brightness, 0, 255).tolist()
        cv2.fillConvexPoly(picture, corners_px, rgb, cv2.LINE_AA, _SHIFT)


def draw_splash(picture: np.ndarray, scene: Scene, motion: DiveMotion, *, frame: int) -> None:
    """Foam on the water and flying drops, from the frame before the entry."""
    entry = motion.execution.entry_frame
    since = frame - (entry - 1)
    if since < 0:
        return
    time_s = since / FPS
    x, y, _ = motion.centre_TC[entry]
    centre, depth = scene.camera.project(np.array([x, y, 0.0]), frame)
    px_per_m = scene.camera.focal_px_T[frame] / depth
    foam_m = min(0.25 + 1.2 * time_s, 0.9)
    axes = (int(px_per_m * foam_m * _ONE), int(px_per_m * 0.22 * foam_m * _ONE))
    at = (int(centre[0] * _ONE), int(centre[1] * _ONE))
    cv2.ellipse(picture, at, axes, 0, 0, 360, _FOAM, -1, cv2.LINE_AA, _SHIFT)
    fall_m = np.array([0.0, 0.0, 9.81 / 2 * time_s**2])
    drops_DC = np.array([x, y, 0.0]) + scene.splash.velocity_DC * time_s - fall_m
    pixels, depths = scene.camera.project(drops_DC, frame)
    radii = np.maximum(scene.splash.radius_D * scene.camera.focal_px_T[frame] / depths, 0.6)
    for (px, py), radius, height in zip(pixels, radii, drops_DC[:, 2], strict=True):
        if height > 0:
            at = (int(px * _ONE), int(py * _ONE))
            cv2.circle(picture, at, int(radius * _ONE), _DROP, -1, cv2.LINE_AA, _SHIFT)
