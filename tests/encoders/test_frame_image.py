"""One resize for every backend: antialiased, unbiased, the same bits; and the eight orientations."""

import numpy as np
import pytest

from encoders.frame_image import orient_frame, resize_frame


def test_shrinking_averages_instead_of_picking():
    """A one-pixel checkerboard becomes gray; without antialiasing it would stay black and white."""
    board = (np.indices((128, 96)).sum(0) % 2 * 255).astype(np.uint8)
    shrunk = resize_frame(np.repeat(board[..., None], 3, axis=2), 16)
    assert shrunk.shape == (16, 16, 3)
    assert np.abs(shrunk.astype(int) - 127).max() <= 12


def test_smooth_pictures_keep_their_values():
    y, x = np.mgrid[0:90, 0:160]
    frame = np.stack([x, y, 200 - y], axis=2).astype(np.uint8)
    shrunk = resize_frame(frame, 32).astype(float)
    centers_x, centers_y = (np.arange(32) + 0.5) * 5 - 0.5, (np.arange(32) + 0.5) * 90 / 32 - 0.5
    inner = slice(2, -2)
    assert np.abs(shrunk[inner, inner, 0] - centers_x[None, inner]).max() < 1
    assert np.abs(shrunk[inner, inner, 1] - centers_y[inner, None]).max() < 1


@pytest.mark.parametrize("size", [None, 48])
def test_native_size_is_untouched(size):
    frame = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    np.testing.assert_array_equal(resize_frame(frame[::-1], size), frame[::-1])


@pytest.mark.parametrize("matrix", [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)])
@pytest.mark.parametrize("is_transposed", [False, True])
def test_each_orientation_moves_pixels_as_the_matrix_says(matrix, is_transposed):
    a, b, c, d = (0, matrix[0], matrix[3], 0) if is_transposed else matrix
    stored = np.arange(6 * 4).reshape(4, 6, 1)
    shown = orient_frame(stored, (a * 65536, b * 65536, c * 65536, d * 65536))
    height, width = shown.shape[:2]
    for y in range(4):
        for x in range(6):
            center_x, center_y = x + 0.5, y + 0.5
            shown_x = int(np.floor(a * center_x + c * center_y)) % width
            shown_y = int(np.floor(b * center_x + d * center_y)) % height
            assert shown[shown_y, shown_x] == stored[y, x]
