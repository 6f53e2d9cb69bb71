"""Colours and sizes against plain arithmetic on the same frames."""

import gc

import numpy as np
import pytest
from av import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from encoders.decoding.assemble import HostCanvas
from encoders.decoding.decode import decode_clips
from encoders.decoding.frames.pixels import orient_frame, resize_frame
from encoders.decoding.pyav_video import FrameConverter
from encoders.media.frame_index import Span
from encoders.media.sampling import SamplingConfig


def random_frame(width: int, height: int) -> VideoFrame:
    rng = np.random.default_rng(width * height)
    frame = VideoFrame(width, height, "yuv420p")
    for plane in frame.planes:
        plane.update(rng.integers(0, 256, plane.buffer_size).astype(np.uint8).tobytes())
    return frame


@pytest.mark.parametrize("size", [(64, 48), (63, 48), (66, 47), (31, 31), (320, 240)])
def test_the_fast_way_to_rgb_gives_the_bits_of_the_slow_one(size):
    frame = random_frame(*size)
    slow = VideoReformatter().reformat(
        frame,
        format="rgb24",
        interpolation=Interpolation.BILINEAR
        | Interpolation.FULL_CHR_H_INT
        | Interpolation.ACCURATE_RND,
        src_colorspace=Colorspace.ITU601,
        dst_colorspace=Colorspace.ITU601,
        threads=1,
    )
    np.testing.assert_array_equal(FrameConverter().rgb_frame(frame), slow.to_ndarray())


def test_a_frame_is_freed_with_its_last_name():
    def num_frames() -> int:
        return sum(isinstance(one, VideoFrame) for one in gc.get_objects())

    converter = FrameConverter()
    gc.collect()
    gc.disable()
    try:
        before = num_frames()
        converter.rgb_frame(random_frame(64, 48))
        assert num_frames() == before
    finally:
        gc.enable()


def area_sampling(size: int) -> SamplingConfig:
    return SamplingConfig(num_frames=4, frame_size=size, resize="swscale_area")


@pytest.mark.parametrize("spec", [{}, {"rotation": 90}, {"width": 32, "height": 32}])
@pytest.mark.parametrize("resize", ["swscale_area", "pillow_bicubic"])
def test_pictures_made_in_their_places_are_the_same(make_video, monkeypatch, spec, resize):
    """Overlapping spans, and one that repeats its frames: what is made in one place is copied to the others."""
    size = {"width": 96, "height": 64} | spec
    path = make_video("a.mp4", num_frames=60, **size)
    spans = [
        Span(start_s=start_s, end_s=end_s) for start_s, end_s in ((0, 2), (0.2, 1), (0.4, 0.56))
    ]
    sampling = SamplingConfig(num_frames=8, frame_size=32, resize=resize)
    in_place = decode_clips(path, spans, sampling)
    monkeypatch.setattr(HostCanvas, "has_buffers", False)
    copied = decode_clips(path, spans, sampling)
    np.testing.assert_array_equal(in_place.frames_NTHWC, copied.frames_NTHWC)
    assert len(np.unique(in_place.frames_NTHWC[0], axis=0)) == 8


def test_area_is_the_mean_of_what_each_pixel_covers(make_video):
    path = make_video("big.mp4", num_frames=20, width=320, height=240, picture="gradient")
    spans = [Span(start_s=0, end_s=None)]
    native = decode_clips(path, spans, SamplingConfig(num_frames=4, frame_size=None))
    small = decode_clips(path, spans, area_sampling(40))
    blocks = native.frames_NTHWC.reshape(1, 4, 40, 6, 40, 8, 3).mean(axis=(3, 5))
    difference = np.abs(small.frames_NTHWC - blocks)
    assert (difference.mean(), difference.max()) < (1, 4)
    np.testing.assert_array_equal(small.frame_indices_NT, native.frame_indices_NT)
    again = decode_clips(path, spans, area_sampling(40))
    np.testing.assert_array_equal(small.frames_NTHWC, again.frames_NTHWC)


def test_frames_of_the_right_size_do_not_depend_on_the_way_to_resize(make_video):
    path = make_video("square.mp4", num_frames=20, width=48, height=48, picture="gradient")
    spans = [Span(start_s=0, end_s=None)]
    area, bicubic = (
        decode_clips(path, spans, SamplingConfig(num_frames=4, frame_size=48, resize=resize))
        for resize in ("swscale_area", "pillow_bicubic")
    )
    np.testing.assert_array_equal(area.frames_NTHWC, bicubic.frames_NTHWC)


@pytest.mark.parametrize("spec", [{}, {"rotation": 90}, {"hflip": True}])
def test_turned_frames_keep_their_numbers(make_video, spec):
    path = make_video("turned.mp4", num_frames=20, width=320, height=240, **spec)
    spans = [Span(start_s=0, end_s=None)]
    area = decode_clips(path, spans, area_sampling(64))
    plain = decode_clips(path, spans, SamplingConfig(num_frames=4, frame_size=64))
    difference = np.abs(area.frames_NTHWC.astype(int) - plain.frames_NTHWC)
    assert difference.mean() < 4  # hard edges, drawn a little softer; a wrong turn is tens away


def test_another_decoders_pictures_come_near(make_video):
    path = make_video("rgb.mp4", num_frames=20, width=320, height=240, picture="gradient")
    spans = [Span(start_s=0, end_s=None)]
    native = decode_clips(path, spans, SamplingConfig(num_frames=4, frame_size=None))
    direct = decode_clips(path, spans, area_sampling(40))
    converter = FrameConverter(area_sampling(40))
    for picture, frame in zip(native.frames_NTHWC[0], direct.frames_NTHWC[0], strict=True):
        difference = np.abs(converter.resized(picture).astype(int) - frame)
        assert (difference.mean(), difference.max()) < (1, 4)


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
