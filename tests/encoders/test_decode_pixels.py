"""Colours and sizes against plain arithmetic on the same frames."""

import gc

import numpy as np
import pytest
from av import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from encoders.decode import Span, decode_clips
from encoders.decode_pixels import PictureMaker
from encoders.decode_spans import HostCanvas
from encoders.sampling import SamplingConfig


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
    np.testing.assert_array_equal(PictureMaker().picture(frame), slow.to_ndarray())


def test_a_frame_is_freed_with_its_last_name():
    def num_frames() -> int:
        return sum(isinstance(one, VideoFrame) for one in gc.get_objects())

    maker = PictureMaker()
    gc.collect()
    gc.disable()
    try:
        before = num_frames()
        maker.picture(random_frame(64, 48))
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
    monkeypatch.setattr(HostCanvas, "has_slots", False)
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
    maker = PictureMaker(area_sampling(40))
    for picture, frame in zip(native.frames_NTHWC[0], direct.frames_NTHWC[0], strict=True):
        difference = np.abs(maker.resized(picture).astype(int) - frame)
        assert (difference.mean(), difference.max()) < (1, 4)
