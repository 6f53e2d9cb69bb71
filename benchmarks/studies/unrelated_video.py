"""Videos that have nothing to do with an archive of dives: streets, textures, noise, and figures of another renderer.

No line of the dive renderer draws any of them. T frames, H W pixels.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

NUM_FRAMES = 60
_WIDTH, _HEIGHT = 192, 144
_GRID_Y, _GRID_X = np.mgrid[0:_HEIGHT, 0:_WIDTH].astype(np.float64)
Draw = Callable[[ImageDraw.ImageDraw, float], None]


def _color(rng: np.random.Generator, low: int = 0, high: int = 256) -> tuple[int, int, int]:
    red, green, blue = rng.integers(low, high, 3).tolist()
    return red, green, blue


def _animate(background: tuple[int, int, int], draw: Draw) -> np.ndarray:
    """Frames [T, H, W, 3]; `draw` gets the time, 0 to 1."""
    frames = []
    for number in range(NUM_FRAMES):
        image = Image.new("RGB", (_WIDTH, _HEIGHT), background)
        draw(ImageDraw.Draw(image), number / NUM_FRAMES)
        frames.append(np.asarray(image))
    return np.stack(frames)


def street(rng: np.random.Generator) -> np.ndarray:
    """Houses with windows behind a road on which cars pass both ways."""
    houses = [(x, int(rng.integers(20, 70)), _color(rng, 60, 200)) for x in range(0, _WIDTH, 32)]
    cars = [
        (rng.uniform(0, 1), rng.choice([-1, 1]) * rng.uniform(0.5, 2), _color(rng))
        for _ in range(5)
    ]

    def draw(canvas: ImageDraw.ImageDraw, t: float) -> None:
        for x, top, color in houses:
            canvas.rectangle((x, top, x + 30, 92), fill=color)
            for row in range(top + 6, 88, 14):
                for column in (x + 5, x + 18):
                    canvas.rectangle((column, row, column + 7, row + 8), fill=(230, 220, 150))
        canvas.rectangle((0, 92, _WIDTH, _HEIGHT), fill=(70, 70, 75))
        for x in range(0, _WIDTH, 24):
            canvas.rectangle((x, 117, x + 12, 119), fill="white")
        for start, speed, color in cars:
            left = ((start + speed * t) % 1.3 - 0.15) * _WIDTH
            top = 96 if speed > 0 else 122
            canvas.rectangle((left, top + 5, left + 34, top + 14), fill=color)
            canvas.rectangle((left + 7, top, left + 26, top + 6), fill=color)
            for wheel in (left + 5, left + 23):
                canvas.ellipse((wheel, top + 11, wheel + 7, top + 18), fill="black")

    return _animate(_color(rng, 150, 240), draw)


def noise(rng: np.random.Generator) -> np.ndarray:
    """Every pixel of every frame at random, in blocks of 1 to 16 pixels."""
    side = int(rng.choice([1, 2, 4, 8, 16]))
    shape = (NUM_FRAMES, _HEIGHT // side, _WIDTH // side, 3)
    return rng.integers(0, 256, shape, np.uint8).repeat(side, axis=1).repeat(side, axis=2)


def plasma(rng: np.random.Generator) -> np.ndarray:
    """Sums of moving waves, as colours."""
    waves = rng.uniform(-0.12, 0.12, (3, 4, 2))
    speeds = rng.uniform(-12, 12, (3, 4))
    frames = np.empty((NUM_FRAMES, _HEIGHT, _WIDTH, 3), np.uint8)
    for number in range(NUM_FRAMES):
        for channel in range(3):
            phases = [
                wave[0] * _GRID_X + wave[1] * _GRID_Y + speed * number / NUM_FRAMES
                for wave, speed in zip(waves[channel], speeds[channel], strict=True)
            ]
            frames[number, ..., channel] = 127 + 31 * np.sin(phases).sum(axis=0)
    return frames


def stripes(rng: np.random.Generator) -> np.ndarray:
    """A pattern of stripes or squares that scrolls."""
    width, angle = rng.uniform(6, 40), rng.uniform(0, np.pi)
    speed, is_checked = rng.uniform(-60, 60), rng.random() < 0.5
    colors = np.array([_color(rng), _color(rng)], np.uint8)
    along = np.cos(angle) * _GRID_X + np.sin(angle) * _GRID_Y
    across = -np.sin(angle) * _GRID_X + np.cos(angle) * _GRID_Y
    frames = []
    for number in range(NUM_FRAMES):
        cells = np.floor((along + speed * number / NUM_FRAMES) / width)
        cells = cells + np.floor(across / width) * is_checked
        frames.append(colors[cells.astype(int) % 2])
    return np.stack(frames)


def balls(rng: np.random.Generator) -> np.ndarray:
    """Balls that bounce in a box."""
    drawn = [
        (rng.uniform(0, 2, 2), rng.uniform(-4, 4, 2), _color(rng), rng.integers(6, 22))
        for _ in range(8)
    ]

    def draw(canvas: ImageDraw.ImageDraw, t: float) -> None:
        for start, speed, color, radius in drawn:
            x, y = np.abs((start + speed * t) % 2 - 1) * (_WIDTH, _HEIGHT)
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)

    return _animate(_color(rng), draw)


def cube(rng: np.random.Generator) -> np.ndarray:
    """A turning cube of lines."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    edges = [(a, b) for a in range(8) for b in range(a) if (corners[a] != corners[b]).sum() == 1]
    speeds, color = rng.uniform(-6, 6, 2), _color(rng, 120)

    def draw(canvas: ImageDraw.ImageDraw, t: float) -> None:
        (c, s), (d, e) = ((np.cos(turn * t), np.sin(turn * t)) for turn in speeds)
        turned = corners @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T
        turned = turned @ np.array([[1, 0, 0], [0, d, -e], [0, e, d]]).T
        points = turned[:, :2] * 160 / (turned[:, 2:] + 4) + (_WIDTH / 2, _HEIGHT / 2)
        for a, b in edges:
            canvas.line((*points[a], *points[b]), fill=color, width=3)

    return _animate((0, 0, 0), draw)


def walker(rng: np.random.Generator) -> np.ndarray:
    """A figure of lines that walks along: a person, but of another renderer, and no dive."""
    size, pace, color = rng.uniform(20, 40), rng.uniform(10, 30), _color(rng)
    ground = rng.uniform(100, 135)

    def draw(canvas: ImageDraw.ImageDraw, t: float) -> None:
        x, hip = (0.1 + 0.8 * t) * _WIDTH, ground - size
        for swing in (np.sin(pace * t), -np.sin(pace * t)):
            canvas.line((x, hip, x + 0.5 * size * swing, ground), fill=color, width=4)
            hand = (x + 0.4 * size * swing, hip - 0.2 * size)
            canvas.line((x, hip - 0.8 * size, *hand), fill=color, width=3)
        canvas.line((x, hip, x, hip - size), fill=color, width=5)
        head = 0.2 * size
        canvas.ellipse((x - head, hip - size - 2 * head, x + head, hip - size), fill=color)
        canvas.line((0, ground, _WIDTH, ground), fill="black", width=2)

    return _animate(_color(rng, 140, 250), draw)


def life(rng: np.random.Generator) -> np.ndarray:
    """Conway's game of life."""
    cells = rng.random((_HEIGHT // 4, _WIDTH // 4)) < 0.3
    color = np.array(_color(rng, 100), np.uint8)
    frames = []
    for _ in range(NUM_FRAMES):
        frames.append((cells[..., None] * color).repeat(4, axis=0).repeat(4, axis=1))
        rolled = [np.roll(cells, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]
        near = np.sum(rolled, axis=0)
        cells = (near == 3) | (cells & (near == 2))
    return np.stack(frames).astype(np.uint8)


def stars(rng: np.random.Generator) -> np.ndarray:
    """A flight through stars."""
    points = rng.uniform(-1, 1, (150, 3))

    def draw(canvas: ImageDraw.ImageDraw, t: float) -> None:
        depth = (points[:, 2] + 1 - 1.5 * t) % 2 + 0.05
        for (x, y), z in zip(points[:, :2], depth, strict=True):
            a, b, r = _WIDTH * (0.5 + x / z / 2), _HEIGHT * (0.5 + y / z / 2), 1.2 / z
            canvas.ellipse((a - r, b - r, a + r, b + r), fill="white")

    return _animate((0, 0, 0), draw)


def still(rng: np.random.Generator) -> np.ndarray:
    """One picture of smooth colours that does not move."""
    small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    picture = np.asarray(small.resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC))
    return np.repeat(picture[None], NUM_FRAMES, axis=0)


KINDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    kind.__name__: kind
    for kind in (street, noise, plasma, stripes, balls, cube, walker, life, stars, still)
}


def unrelated_video(kind: str, seed: int) -> np.ndarray:
    """uint8 RGB frames [T, H, W, 3] at 25 fps."""
    return KINDS[kind](np.random.default_rng([seed, list(KINDS).index(kind)]))
