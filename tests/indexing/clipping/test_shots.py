"""Cuts between shots of moving pictures; a fast camera and a flash are none."""

import numpy as np
import pytest

from indexing.clipping.shots import ShotSettings, find_cuts

SIZE, FPS = 64, 25


def scene(seed: int) -> np.ndarray:
    """A wide picture of coloured blocks for a camera to look at."""
    blocks = np.random.default_rng(seed).integers(0, 255, (8, 40, 3), dtype=np.uint8)
    return blocks.repeat(8, axis=0).repeat(8, axis=1)


def shot(seed: int, num_frames: int, *, pixels_per_frame: int = 1) -> list[np.ndarray]:
    picture = scene(seed)
    starts = [n * pixels_per_frame % (picture.shape[1] - SIZE) for n in range(num_frames)]
    return [picture[:, start : start + SIZE] for start in starts]


def timed(frames: list[np.ndarray]) -> list[tuple[float, np.ndarray]]:
    return [(n / FPS, frame) for n, frame in enumerate(frames)]


def test_the_first_frame_of_a_shot_is_found_to_the_frame() -> None:
    frames = [*shot(0, 40), *shot(1, 60), *shot(2, 30, pixels_per_frame=3)]
    assert find_cuts(timed(frames), ShotSettings()) == pytest.approx([40 / FPS, 100 / FPS])


def test_one_shot_has_no_cut_however_fast_the_camera() -> None:
    assert find_cuts(timed(shot(3, 80, pixels_per_frame=3)), ShotSettings()) == []
    assert find_cuts([], ShotSettings()) == []


def test_times_and_not_frame_numbers_count() -> None:
    frames = [*shot(0, 20), *shot(1, 20)]
    slow = [(n * 0.5, frame) for n, frame in enumerate(frames)]
    assert find_cuts(slow, ShotSettings()) == pytest.approx([10.0])


def test_cuts_within_the_shortest_shot_are_one() -> None:
    frames = [*shot(0, 40), *shot(1, 8), *shot(2, 40)]
    assert find_cuts(timed(frames), ShotSettings(min_shot_s=1.0)) == pytest.approx([40 / FPS])


@pytest.mark.parametrize("name", ["ratio", "min_change", "min_shot_s"])
def test_settings_out_of_range_are_named(name) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0; it must be above 0"):
        ShotSettings(**{name: 0})
