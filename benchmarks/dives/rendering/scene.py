"""Appearance of a clip: diver, pool, light, camera, splash, sampled independently of the class, which is not an argument here.

N capsules, T frames, C = 3 (coordinates or RGB). Colours are float RGB, 0 to 255.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from benchmarks.dives.motion.body import CAPSULE_NAMES
from benchmarks.dives.motion.execution import Execution, flight_path
from benchmarks.dives.random_streams import Purpose, open_stream
from benchmarks.dives.rendering.backdrop import Backdrop, BackdropRanges, draw_backdrop
from benchmarks.dives.rendering.camera import Camera, CameraRanges, draw_camera
from benchmarks.dives.rendering.colors import hsv

Difficulty = Literal["open", "full"]
NUM_DROPS = 46
_PLATFORM_MIN_M = 4.6


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """What the appearance of a difficulty is drawn from."""

    camera: CameraRanges
    backdrop: BackdropRanges
    skin_saturation: tuple[float, float]
    skin_value: tuple[float, float]


PRESETS: dict[str, Preset] = {
    "open": Preset(
        camera=CameraRanges(
            max_azimuth_deg=20,
            max_lag=0.2,
            max_shake_m=0.12,
            aim_error_m=0.045,
            field_m=(2.45, 2.8),
        ),
        backdrop=BackdropRanges(
            wall_value=(0.15, 0.35),
            max_wall_mottle=8,
            has_pattern=False,
            num_banners=(0, 2),
            max_banner_value=0.4,
            water_value=(0.25, 0.45),
        ),
        skin_saturation=(0.25, 0.5),
        skin_value=(0.75, 0.97),
    ),
    "full": Preset(
        camera=CameraRanges(
            max_azimuth_deg=35, max_lag=0.55, max_shake_m=0.5, aim_error_m=0.15, field_m=(2.6, 3.6)
        ),
        backdrop=BackdropRanges(
            wall_value=(0.3, 0.95),
            max_wall_mottle=28,
            has_pattern=True,
            num_banners=(2, 12),
            max_banner_value=1.0,
            water_value=(0.45, 0.9),
        ),
        skin_saturation=(0.25, 0.65),
        skin_value=(0.35, 0.97),
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class DiverLook:
    """Colours of the diver."""

    front_NC: np.ndarray
    back_NC: np.ndarray
    """Front and back differ, so that a twist can be seen."""
    suit_C: np.ndarray
    suit_leg_share: float
    """Share of the thigh that the suit covers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """What the diver leaves: a springboard or a platform."""

    is_platform: bool
    colour_C: np.ndarray
    post_colour_C: np.ndarray


@dataclass(frozen=True, kw_only=True, slots=True)
class Light:
    """Light of the hall and how the broadcaster treats the picture."""

    direction_C: np.ndarray
    """Towards the light, world."""
    ambient: float
    tint_C: np.ndarray
    gain: float
    noise: float
    logo: tuple[float, float, float, np.ndarray] | None
    """(left, is at the bottom, width, colour) of a channel logo."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Splash:
    """Drops that fly up at the entry."""

    velocity_DC: np.ndarray
    radius_D: np.ndarray


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """Everything about a clip's pictures but the body's motion."""

    camera: Camera
    diver: DiverLook
    backdrop: Backdrop
    board: Board
    light: Light
    splash: Splash
    noise_stream: tuple[int, str, int]
    """(seed, split, index) of the film grain."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneIndices:
    """Which index draws which part: a broadcast keeps its pool from dive to dive, and shows a replay from another camera."""

    clip: int
    pool: int
    camera: int | None = None
    """None = as `clip`."""


def draw_scene(
    execution: Execution,
    indices: SceneIndices,
    *,
    seed: int,
    split: str,
    difficulty: str,
    size_px: int,
) -> Scene:
    """The scene of one clip; `execution` gives the camera its flight path."""
    preset = find_preset(difficulty)

    def stream(purpose: Purpose, index: int) -> np.random.Generator:
        return open_stream(seed=seed, split=split, index=index, purpose=purpose)

    _, board_m = flight_path(execution)
    of_camera = indices.clip if indices.camera is None else indices.camera
    camera = draw_camera(stream("camera", of_camera), execution, preset.camera, size_px=size_px)
    pool = stream("pool", indices.pool)
    return Scene(
        camera=camera,
        diver=_draw_diver(stream("diver", indices.clip), preset),
        backdrop=draw_backdrop(pool, preset.backdrop, camera_side=camera.side),
        board=_draw_board(pool, board_m),
        light=_draw_light(pool, camera.side),
        splash=_draw_splash(stream("splash", indices.clip)),
        noise_stream=(seed, split, indices.clip),
    )


def find_preset(difficulty: str) -> Preset:
    """The preset of a difficulty; ValueError if there is none."""
    if difficulty not in PRESETS:
        raise ValueError(
            f"difficulty is {difficulty!r}; choose one of {', '.join(get_args(Difficulty))}"
        )
    return PRESETS[difficulty]


def _draw_diver(rng: np.random.Generator, preset: Preset) -> DiverLook:
    uniform = rng.uniform
    skin = hsv(uniform(0.02, 0.075), uniform(*preset.skin_saturation), uniform(*preset.skin_value))
    suit = hsv(rng.random(), uniform(0.4, 1), uniform(0.25, 1))
    suit_back = hsv(rng.random(), uniform(0.2, 1), uniform(0.25, 1))
    if rng.random() < 0.6:
        hair = hsv(uniform(0.0, 0.12), uniform(0.1, 0.8), uniform(0.05, 0.45))
    else:
        hair = hsv(rng.random(), 0.8, uniform(0.3, 1))  # a cap
    colours = dict.fromkeys(CAPSULE_NAMES, (skin, skin * 0.93))
    colours["head"] = (skin * 1.03, hair)
    colours["pelvis"] = (suit, suit * 0.85)
    if rng.random() < 0.6:  # a suit that covers the trunk
        colours["abdomen"] = (suit, suit_back)
        colours["chest"] = (suit, skin * 0.95 if rng.random() < 0.6 else suit_back)
    return DiverLook(
        front_NC=np.stack([colours[name][0] for name in CAPSULE_NAMES]).astype(np.float32),
        back_NC=np.stack([colours[name][1] for name in CAPSULE_NAMES]).astype(np.float32),
        suit_C=suit,
        suit_leg_share=uniform(0.0, 0.35),
    )


def _draw_board(rng: np.random.Generator, board_m: float) -> Board:
    return Board(
        is_platform=bool(rng.random() < 0.3) or board_m > _PLATFORM_MIN_M,
        colour_C=hsv(rng.random(), rng.uniform(0, 0.5), rng.uniform(0.4, 0.95)),
        post_colour_C=hsv(rng.random(), rng.uniform(0, 0.3), rng.uniform(0.4, 0.9)),
    )


def _draw_light(rng: np.random.Generator, side: float) -> Light:
    direction_C = rng.normal(0, 1, 3)
    direction_C[1] = side * abs(direction_C[1])
    direction_C[2] = abs(direction_C[2]) + 0.7
    logo = (
        float(rng.random()),
        float(rng.random() < 0.5),
        float(rng.random()),
        hsv(rng.random(), rng.random(), rng.uniform(0.2, 1)),
    )
    return Light(
        direction_C=direction_C / np.linalg.norm(direction_C),
        ambient=rng.uniform(0.35, 0.6),
        tint_C=rng.uniform(0.92, 1.08, 3).astype(np.float32),
        gain=rng.uniform(0.8, 1.15),
        noise=rng.uniform(0, 5),
        logo=logo if rng.random() < 0.4 else None,
    )


def _draw_splash(rng: np.random.Generator) -> Splash:
    n = NUM_DROPS
    velocity_DC = np.stack(
        [rng.normal(0, 0.9, n), rng.normal(0, 0.9, n), rng.gamma(2.0, 1.1, n)], axis=1
    )
    return Splash(
        velocity_DC=velocity_DC * rng.uniform(0.6, 1.3), radius_D=rng.uniform(0.02, 0.07, n)
    )
