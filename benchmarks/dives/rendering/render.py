"""Motion and scene -> frames: shaded capsule impostors over the empty pool, one capsule at a time for the whole clip.

An impostor is the picture of a rounded cone computed per pixel: nearest point of its axis, then normal, depth and colour there.
T frames, V frames in which a capsule is seen, N capsules, E = 2 capsule ends, H W pixels, C = 3 (coordinates or RGB).
"""

from dataclasses import dataclass

import numpy as np

from benchmarks.dives.motion.body import CAPSULE_NAMES, CAPSULES, RADII_NE
from benchmarks.dives.motion.execution import FPS
from benchmarks.dives.motion.kinematics import DiveMotion
from benchmarks.dives.random_streams import open_stream
from benchmarks.dives.rendering.backdrop import render_backdrop
from benchmarks.dives.rendering.props import draw_board, draw_splash
from benchmarks.dives.rendering.scene import Light, Scene

_FAR_M = 1e9
_FULL_LIGHT = 1.15


@dataclass(frozen=True, kw_only=True, slots=True)
class _Projected:
    """The body in pixels, all frames at once."""

    ends_px: np.ndarray
    """[T, N, E, 2]"""
    depth_m: np.ndarray
    """[T, N, E]"""
    radius_px: np.ndarray
    """[T, N, E]"""
    fronts_TNC: np.ndarray
    low_px: np.ndarray
    """Upper left corner of each capsule's picture [T, N, 2]."""
    high_px: np.ndarray
    is_seen: np.ndarray
    """[T, N]: partly above water and inside the picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    """Pictures of one capsule in all frames that show it."""

    row_of_frame: np.ndarray
    low_px: np.ndarray
    alpha_VHW: np.ndarray
    depth_VHW: np.ndarray
    colour_VHWC: np.ndarray


def render_frames(motion: DiveMotion, scene: Scene) -> np.ndarray:
    """uint8 [T, H, W, C]."""
    size = scene.camera.size_px
    body = _project_body(motion, scene)
    light_TC = scene.camera.turn(np.broadcast_to(scene.light.direction_C, (motion.num_frames, 3)))
    layers = [
        _draw_capsule(n, body, scene, light_TC.astype(np.float32)) for n in range(len(CAPSULES))
    ]
    far_first_TN = np.argsort(-body.depth_m.mean(axis=2), axis=1)
    grain = _grain_stream(scene)
    frames_THWC = np.empty((motion.num_frames, size, size, 3), np.uint8)
    for t in range(motion.num_frames):
        picture = render_backdrop(scene.backdrop, scene.camera, t, time_s=t / FPS)
        draw_board(picture, scene, board_m=motion.board_m, frame=t)
        depth_HW = np.full((size, size), _FAR_M, np.float32)
        for n in far_first_TN[t]:
            layer = layers[n]
            if layer is not None and body.is_seen[t, n]:
                _paste(picture, depth_HW, layer, t)
        draw_splash(picture, scene, motion, frame=t)
        frames_THWC[t] = _finish(picture, scene.light, grain)
    return frames_THWC


def render_empty(scene: Scene, *, board_m: float, frame: int, num_frames: int) -> np.ndarray:
    """The pool with nobody in it, seen by the camera as it stands in `frame`: uint8 [num_frames, H, W, C]."""
    grain = _grain_stream(scene)
    pictures = []
    for t in range(num_frames):
        picture = render_backdrop(scene.backdrop, scene.camera, frame, time_s=t / FPS)
        draw_board(picture, scene, board_m=board_m, frame=frame)
        pictures.append(_finish(picture, scene.light, grain))
    return np.stack(pictures)


def _grain_stream(scene: Scene) -> np.random.Generator:
    seed, split, index = scene.noise_stream
    return open_stream(seed=seed, split=split, index=index, purpose="noise")


def _project_body(motion: DiveMotion, scene: Scene) -> _Projected:
    camera = scene.camera
    ends_TNEC, is_dry_TN = _cut_at_water(motion.ends_TNEC)
    seen_TNEC = camera.to_camera(ends_TNEC)
    depth_m = seen_TNEC[..., 2]
    px_per_m = camera.focal_px_T[:, None, None] / np.maximum(depth_m, 0.05)
    ends_px = (seen_TNEC[..., :2] * px_per_m[..., None] + camera.size_px / 2).astype(np.float32)
    radius_px = (RADII_NE * motion.execution.body_scale * px_per_m).astype(np.float32)
    low_px = np.floor((ends_px - radius_px[..., None]).min(axis=2) - 1).astype(np.int32)
    high_px = np.ceil((ends_px + radius_px[..., None]).max(axis=2) + 2).astype(np.int32)
    is_inside_TN = (high_px > 0).all(axis=2) & (low_px < camera.size_px).all(axis=2)
    return _Projected(
        ends_px=ends_px,
        depth_m=depth_m.astype(np.float32),
        radius_px=radius_px,
        fronts_TNC=camera.turn(motion.fronts_TNC).astype(np.float32),
        low_px=low_px,
        high_px=high_px,
        is_seen=is_dry_TN & is_inside_TN,
    )


def _cut_at_water(ends_TNEC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Capsules without their parts under water, and which capsules are not wholly under it [T, N]."""
    ends_TNEC = ends_TNEC.copy()
    height_TNE = ends_TNEC[..., 2].copy()
    is_dry_TN = np.asarray((height_TNE > 0).any(axis=2))
    for wet, dry in ((0, 1), (1, 0)):
        cut = is_dry_TN & (height_TNE[..., wet] < 0)
        below, above = height_TNE[..., wet][cut], height_TNE[..., dry][cut]
        share = (above / (above - below))[:, None]
        ends_TNEC[cut, wet] = ends_TNEC[cut, dry] * (1 - share) + ends_TNEC[cut, wet] * share
    return ends_TNEC, np.asarray(is_dry_TN)


def _draw_capsule(n: int, body: _Projected, scene: Scene, light_TC: np.ndarray) -> _Layer | None:
    frames_V = np.flatnonzero(body.is_seen[:, n])
    if not len(frames_V):
        return None
    low, high = body.low_px[frames_V, n], body.high_px[frames_V, n]
    # A capsule close to the lens may be far larger than the picture; nothing outside it is needed.
    width, height = np.minimum((high - low).max(axis=0), 2 * scene.camera.size_px)
    first, last = body.ends_px[frames_V, n, 0], body.ends_px[frames_V, n, 1]
    axis = last - first
    length2 = np.maximum((axis * axis).sum(axis=1), np.float32(1e-3))
    x = (low[:, 0, None] + np.arange(width, dtype=np.float32) + np.float32(0.5))[:, None, :]
    y = (low[:, 1, None] + np.arange(height, dtype=np.float32) + np.float32(0.5))[:, :, None]
    x, y = x - _column(first[:, 0]), y - _column(first[:, 1])
    along = np.clip(x * _column(axis[:, 0] / length2) + y * _column(axis[:, 1] / length2), 0, 1)
    r0, r1 = body.radius_px[frames_V, n, 0], body.radius_px[frames_V, n, 1]
    radius = _column(r0) + along * _column(r1 - r0)
    normal_x = (x - along * _column(axis[:, 0])) / radius
    normal_y = (y - along * _column(axis[:, 1])) / radius
    distance2 = normal_x * normal_x + normal_y * normal_y
    normal_z = -np.sqrt(np.maximum(1 - distance2, 0))
    z0, z1 = body.depth_m[frames_V, n, 0], body.depth_m[frames_V, n, 1]
    mean_radius_m = np.float32(RADII_NE[n].mean())
    row_of_frame = np.full(len(body.is_seen), -1)
    row_of_frame[frames_V] = np.arange(len(frames_V))
    normals = (normal_x, normal_y, normal_z)
    brightness = scene.light.ambient + (_FULL_LIGHT - scene.light.ambient) * np.maximum(
        _dot(normals, light_TC[frames_V]), 0
    )
    # The edge between front and back is soft over a sixth of the radius.
    front = np.clip(_dot(normals, body.fronts_TNC[frames_V, n]) * 6 + 0.5, 0, 1)
    return _Layer(
        row_of_frame=row_of_frame,
        low_px=body.low_px[:, n],
        alpha_VHW=np.clip(radius * (1 - np.sqrt(distance2)) + 0.5, 0, 1),
        depth_VHW=_column(z0) + along * _column(z1 - z0) + normal_z * mean_radius_m,
        colour_VHWC=_colour(n, scene, front=front, brightness=brightness, along=along),
    )


def _colour(
    n: int, scene: Scene, *, front: np.ndarray, brightness: np.ndarray, along: np.ndarray
) -> np.ndarray:
    diver = scene.diver
    lit_front = (front * brightness)[..., None]
    colour = (brightness[..., None] - lit_front) * diver.back_NC[n] + lit_front * diver.front_NC[n]
    if CAPSULE_NAMES[n].endswith("thigh"):
        is_suit = along < diver.suit_leg_share
        colour[is_suit] = brightness[is_suit][:, None] * diver.suit_C
    return np.minimum(colour, 255)


def _column(values_V: np.ndarray) -> np.ndarray:
    return values_V[:, None, None]


def _dot(
    normals: tuple[np.ndarray, np.ndarray, np.ndarray], direction_VC: np.ndarray
) -> np.ndarray:
    x, y, z = normals
    a, b, c = direction_VC.T
    return x * _column(a) + y * _column(b) + z * _column(c)


def _paste(picture: np.ndarray, depth_HW: np.ndarray, layer: _Layer, t: int) -> None:
    """Blends the capsule over what is farther away, in place."""
    row, (x, y) = layer.row_of_frame[t], layer.low_px[t]
    height, width = layer.alpha_VHW.shape[1:]
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, picture.shape[1]), min(y + height, picture.shape[0])
    if right <= left or bottom <= top:
        return
    part = (row, slice(top - y, bottom - y), slice(left - x, right - x))
    here = (slice(top, bottom), slice(left, right))
    depth = layer.depth_VHW[part]
    # One centimetre of tolerance lets neighbouring capsules blend where they meet.
    alpha = layer.alpha_VHW[part] * (depth < depth_HW[here] + np.float32(0.01))
    below = picture[here]
    picture[here] = below + (layer.colour_VHWC[part] - below) * alpha[..., None]
    np.copyto(depth_HW[here], depth, where=alpha > 0.5)


def _finish(picture: np.ndarray, light: Light, grain: np.random.Generator) -> np.ndarray:
    """Logo, tint, gain and film grain."""
    size = len(picture)
    if light.logo is not None:
        left, is_low, width, colour = light.logo
        x, y = int(left * size * 0.7), int(is_low * size * 0.86) + 2
        picture[y : y + int(size * 0.09), x : x + int(size * (0.15 + 0.2 * width))] = colour
    toned = picture.astype(np.float32) * (light.tint_C * np.float32(light.gain))
    noise = grain.standard_normal((size, size), np.float32)[..., None]
    return np.clip(toned + noise * np.float32(light.noise), 0, 255).astype(np.uint8)
