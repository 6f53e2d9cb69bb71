"""Crop, mirroring and RandAugment: the same for a whole clip or drawn for each frame, operations against Pillow and by hand."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from training.configs import AugmentConfig
from training.stage1.augment import OPERATIONS, augment_frames

NUM_FRAMES = 4


def noise(size=16):
    return np.random.default_rng(0).integers(30, 200, (size, size, 3)).astype(np.uint8)


def repeated(size=16):
    return torch.from_numpy(noise(size)[None].repeat(NUM_FRAMES, 0))


def outcomes(augment, seeds=20):
    return [
        augment_frames(repeated(), augment, 8, np.random.default_rng(seed)) for seed in range(seeds)
    ]


def test_all_frames_of_a_clip_are_augmented_alike() -> None:
    made = outcomes(AugmentConfig(min_crop_scale=0.5, rand_augment=(2, 5)))
    assert {(tuple(frames.shape), frames.dtype) for frames in made} == {
        ((NUM_FRAMES, 8, 8, 3), torch.uint8)
    }
    assert all(torch.equal(frame, frames[0]) for frames in made for frame in frames)
    assert len({frames.numpy().tobytes() for frames in made}) > 15


def test_or_each_frame_apart_and_again_the_same() -> None:
    augment = AugmentConfig(min_crop_scale=0.5, rand_augment=(2, 5), per_frame=True)
    made = outcomes(augment, seeds=3)
    assert all(len({frame.numpy().tobytes() for frame in frames}) > 1 for frames in made)
    for frames, again in zip(made, outcomes(augment, seeds=3), strict=True):
        assert torch.equal(frames, again)


def test_mirroring_is_left_and_right() -> None:
    frames = torch.arange(8 * 8 * 3, dtype=torch.uint8).reshape(1, 8, 8, 3)
    made = {
        augment_frames(frames, AugmentConfig(), 8, np.random.default_rng(s)).numpy().tobytes()
        for s in range(12)
    }
    assert made == {frames.numpy().tobytes(), frames.numpy()[:, :, ::-1].tobytes()}


@pytest.mark.parametrize(
    ("name", "of_pillow", "share"),
    [
        ("identity", lambda image: image, 0.5),
        ("auto_contrast", ImageOps.autocontrast, 0.5),
        ("equalize", ImageOps.equalize, 0.5),
        ("brightness", lambda image: ImageEnhance.Brightness(image).enhance(1.54), 0.8),
        ("sharpness", lambda image: ImageEnhance.Sharpness(image).enhance(1.54), 0.8),
    ],
)
def test_colours_as_pillow_makes_them(name, of_pillow, share) -> None:
    frame = noise(40)
    expected = np.asarray(of_pillow(Image.fromarray(frame))).astype(int)
    found = OPERATIONS[name](frame, share, 1.0)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 1  # rounds a half another way


def test_the_released_strength_leaves_brightness_and_sharpness_as_they_are() -> None:
    for name in ("brightness", "sharpness"):
        np.testing.assert_array_equal(OPERATIONS[name](noise(), 0.5, 1.0), noise())


def test_a_flat_frame_has_no_contrast_to_spread() -> None:
    flat = np.full((9, 9, 3), 77, np.uint8)
    for name in ("auto_contrast", "equalize"):
        np.testing.assert_array_equal(OPERATIONS[name](flat, 0.5, 1.0), flat)


def test_frames_move_by_the_strength_and_grey_comes_in() -> None:
    frame = noise()
    shifted = OPERATIONS["translate_x"](frame, 0.5, 1.0)
    np.testing.assert_array_equal(shifted[:, :-5], frame[:, 5:])
    assert (shifted[:, -5:] == 128).all()
    np.testing.assert_array_equal(OPERATIONS["translate_y"](frame, 0.3, -1.0)[3:], frame[:-3])
    sheared = OPERATIONS["shear_x"](frame, 1 / 3, 1.0)  # row y moves by y / 10
    np.testing.assert_array_equal(sheared[0], frame[0])
    np.testing.assert_array_equal(sheared[10, 1:], frame[10, :-1])
    sheared = OPERATIONS["shear_y"](frame, 1 / 3, -1.0)
    np.testing.assert_array_equal(sheared[:-1, 10], frame[1:, 10])
    turned = OPERATIONS["rotate"](frame, 0.5, 1.0)
    assert (turned[0, 0] == 128).all()
    np.testing.assert_array_equal(OPERATIONS["rotate"](frame, 0.0, 1.0), frame)


@pytest.mark.parametrize("value", [(0, 5), (2, 11), (2, -1)])
def test_a_strength_that_is_not_on_the_scale_is_refused(value) -> None:
    with pytest.raises(ValueError, match=r"rand_augment is .*; it must be None, or a number"):
        AugmentConfig(rand_augment=value)
