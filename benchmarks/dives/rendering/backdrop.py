"""The pool behind the diver: one texture of wall and water, and its picture from a camera.

The wall is the plane y = wall_y_m, the water the plane z = 0. Texture rows go from the foot of the wall upwards, then from the
wall over the water towards the camera. H W pixels, T frames.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from benchmarks.dives.rendering.camera import Camera
from benchmarks.dives.rendering.colors import hsv

PIXELS_PER_M = 8
HALF_WIDTH_M, WALL_HEIGHT_M, WATER_DEPTH_M = 36, 22, 34
_WIDTH = 2 * HALF_WIDTH_M * PIXELS_PER_M
_WALL_ROWS = WALL_HEIGHT_M * PIXELS_PER_M
_WATER_ROWS = WATER_DEPTH_M * PIXELS_PER_M
_FAR_M = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class BackdropRanges:
    """What walls and water of a difficulty are drawn from. Values are brightness, 0 to 1."""

    wall_value: tuple[float, float]
    max_wall_mottle: float
    has_pattern: bool
    """Tiles or a stand with a crowd."""
    num_banners: tuple[int, int]
    """From, to (exclusive)."""
    max_banner_value: float
    water_value: tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Backdrop:
    """Wall and water of one pool."""

    texture: np.ndarray
    """uint8 [rows, columns, RGB]."""
    wall_y_m: float


def draw_backdrop(
    rng: np.random.Generator, ranges: BackdropRanges, *, camera_side: float
) -> Backdrop:
    """A pool with its wall on the other side from the camera."""
    wall = _draw_wall(rng, ranges)
    water_colour = hsv(
        rng.uniform(0.45, 0.62), rng.uniform(0.4, 0.9), rng.uniform(*ranges.water_value)
    )
    ripples = rng.normal(0, 1, (_WATER_ROWS // 3, _WIDTH // 8)).astype(np.float32)
    ripples = cv2.resize(ripples, (_WIDTH, _WATER_ROWS), interpolation=cv2.INTER_LINEAR)
    water = water_colour + ripples[..., None] * rng.uniform(4, 16)
    texture = np.clip(np.concatenate([wall[::-1], water]), 0, 255).astype(np.uint8)
    return Backdrop(texture=texture, wall_y_m=-camera_side * rng.uniform(7, 14))


def _draw_wall(rng: np.random.Generator, ranges: BackdropRanges) -> np.ndarray:
    base = hsv(rng.random(), rng.uniform(0, 0.55), rng.uniform(*ranges.wall_value))
    mottle = rng.normal(0, 1, (rng.integers(2, 7), rng.integers(4, 18), 3)).astype(np.float32)
    mottle = cv2.resize(mottle, (_WIDTH, _WALL_ROWS), interpolation=cv2.INTER_CUBIC)
    wall = base + mottle * rng.uniform(2, ranges.max_wall_mottle)
    kind = rng.random() if ranges.has_pattern else 1.0
    if kind < 0.35:
        step, colour = int(rng.integers(5, 14)), base * rng.uniform(0.6, 1.3)
        wall[::step] = colour
        wall[:, ::step] = colour
    elif kind < 0.7:
        _draw_crowd(rng, wall)
    for _ in range(rng.integers(*ranges.num_banners)):
        x, y = rng.integers(0, _WIDTH), rng.integers(0, _WALL_ROWS)
        width, height = rng.integers(8, 90), rng.integers(6, 50)
        value = rng.uniform(0.2, ranges.max_banner_value)
        wall[y : y + height, x : x + width] = hsv(rng.random(), rng.random(), value)
    return wall


def _draw_crowd(rng: np.random.Generator, wall: np.ndarray) -> None:
    top = int(rng.integers(10, _WALL_ROWS - 40))
    rows = int(rng.integers(30, _WALL_ROWS - top))
    crowd = rng.uniform(20, 235, (rows // 4 + 1, _WIDTH // 4, 3)).astype(np.float32)
    crowd = cv2.resize(crowd, (_WIDTH, rows), interpolation=cv2.INTER_LINEAR)
    share = rng.uniform(0.3, 0.8)
    wall[top : top + rows] = wall[top : top + rows] * (1 - share) + crowd * share


@lru_cache(maxsize=4)
def _pixel_grid(size_px: int) -> np.ndarray:
    """Camera coordinates [H * W, 3] of every pixel, for a focal length of one pixel."""
    axis = np.arange(size_px, dtype=np.float32) + 0.5 - size_px / 2
    x, y = np.meshgrid(axis, axis)
    return np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)


def render_backdrop(backdrop: Backdrop, camera: Camera, frame: int, *, time_s: float) -> np.ndarray:
    """The empty pool, uint8 [H, W, 3]; `time_s` moves the ripples."""
    n, focal = camera.size_px, camera.focal_px_T[frame]
    rotation = camera.rotation_TCC[frame] / np.array([[focal], [focal], [1.0]])
    ray = _pixel_grid(n) @ rotation.astype(np.float32)
    x, y, z = camera.position_C.astype(np.float32)
    ray_y = np.where(np.abs(ray[:, 1]) < 1e-4, np.float32(1e-4), ray[:, 1])
    to_wall = (np.float32(backdrop.wall_y_m) - y) / ray_y
    to_wall = np.where(to_wall < 0, np.float32(_FAR_M), to_wall)
    height_m = z + to_wall * ray[:, 2]
    is_water = height_m < 0
    reach = np.where(is_water, -z / np.minimum(ray[:, 2], np.float32(-1e-4)), to_wall)
    column = (x + reach * ray[:, 0] + HALF_WIDTH_M) * PIXELS_PER_M
    from_wall = np.abs(y + reach * ray_y - np.float32(backdrop.wall_y_m)) * PIXELS_PER_M + 1
    row = np.where(
        is_water,
        _WALL_ROWS + np.minimum(from_wall, _WATER_ROWS - 2),
        np.minimum(height_m * PIXELS_PER_M, _WALL_ROWS - 2),
    )
    waves = np.float32(2.5) * np.sin(np.float32(22.5 * time_s) + row * np.float32(0.35))
    column = column + np.where(is_water, waves, 0)
    return cv2.remap(
        backdrop.texture,
        column.reshape(n, n).astype(np.float32),
        row.reshape(n, n).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )
