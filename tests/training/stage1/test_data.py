from dataclasses import replace

import numpy as np
import pytest
import torch

from encoders.clips import Clip
from encoders.decoding.decode import iter_spans
from encoders.decoding.isolated import IsolatedDecoder
from encoders.video_encoder.config import FrameTemporalConfig
from tests.support.videos import VideoSpec, write_video
from training.configs import AugmentConfig
from training.stage1 import data, frame_cache
from training.stage1.data import (
    CachedFeatureSource,
    DecodedSource,
    ExampleSettings,
    balanced_order,
    example_rng,
    load_ahead,
)
from training.stage1.frame_cache import FrameCache
from training.stage1.frame_vectors import FrameVectors, VectorSource

NUM_CLIPS, NUM_POSITIONS, NUM_FRAMES = 6, 12, 4


def settings(**augment) -> ExampleSettings:
    return ExampleSettings(
        num_frames=NUM_FRAMES, image_size=8, augment=AugmentConfig(**augment), seed=3
    )


@pytest.fixture
def source() -> CachedFeatureSource:
    """The vector of a position says which clip and position it is; a mirrored one is negative."""
    clips = [Clip(clip_id=f"c{n}", video_uri="v") for n in range(NUM_CLIPS)]
    numbers = torch.arange(NUM_CLIPS * NUM_POSITIONS).reshape(NUM_CLIPS, NUM_POSITIONS, 1).float()
    vectors = FrameVectors(
        clip_ids=tuple(clip.clip_id for clip in clips),
        plain_NMF=numbers,
        flipped_NMF=-numbers - 1000,
        dead=(),
    )
    return CachedFeatureSource(clips, vectors, settings())


def test_validation_reads_the_middle_of_every_interval(source) -> None:
    rows = source.load(np.array([2, 0]), None)["frame_vectors"][:, :, 0]
    assert rows.tolist() == [[25.0, 28.0, 31.0, 34.0], [1.0, 4.0, 7.0, 10.0]]


def test_training_reads_one_position_of_every_interval_plain_or_mirrored(source) -> None:
    seen = set()
    for epoch in range(40):
        row = source.load(np.array([1]), epoch)["frame_vectors"][0, :, 0]
        is_mirrored = bool(row[0] < 0)
        positions = (-row - 1000 if is_mirrored else row) - NUM_POSITIONS
        assert (positions // 3).tolist() == [0, 1, 2, 3]
        seen.add((is_mirrored, tuple(positions.tolist())))
    assert {mirrored for mirrored, _positions in seen} == {True, False}
    assert len(seen) > 20


def test_an_example_depends_on_its_clip_and_epoch_alone(source) -> None:
    together = source.load(np.array([4, 5, 1]), 7)["frame_vectors"]
    alone = source.load(np.array([5]), 7)["frame_vectors"]
    assert torch.equal(together[1], alone[0])
    first = example_rng(0, 1, "a").random()
    assert first == example_rng(0, 1, "a").random()
    assert len({first, example_rng(0, 1, "b").random(), example_rng(0, 2, "a").random()}) == 3


@pytest.mark.parametrize("num_threads", [1, 3])
def test_loading_ahead_keeps_the_order(source, num_threads) -> None:
    steps = [np.array([n, (n + 1) % NUM_CLIPS]) for n in range(NUM_CLIPS)]
    batches = list(load_ahead(source, steps, epoch=2, num_threads=num_threads))
    for step, batch in zip(steps, batches, strict=True):
        assert torch.equal(batch["frame_vectors"], source.load(step, 2)["frame_vectors"])


CRASHING = """
import os
import numpy as np
from encoders.decoding.decode import DecodedSpan

def decode(request):
    if request.video == "crash": os.abort()
    value = len(request.sampling.resize) if request.video == "resize" else int(request.video)
    frames = np.full((request.sampling.num_frames, 8, 8, 3), value, np.uint8)
    yield DecodedSpan(number=0, frames_THWC=frames, frame_indices_T=np.arange(4), error=None,
                      backend_used="pyav", fallback_reason=None, num_frames_decoded=4)
"""


def test_a_codec_that_crashes_costs_its_clip(tmp_path, monkeypatch) -> None:
    (tmp_path / "crashing.py").write_text(CRASHING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    videos = ("7", "crash", "9", "crash", "resize")
    clips = [Clip(clip_id=f"c{video}", video_uri=video) for video in videos]
    source = DecodedSource(
        clips,
        replace(settings(), resize="swscale_area"),
        backend="pyav",
        device="cpu",
        new_decoder=lambda _device: IsolatedDecoder(
            deadline_s=30, decode_function="crashing:decode"
        ),
    )
    (batch,) = load_ahead(source, [np.arange(5)], epoch=None, num_threads=2)
    assert batch["weights"].tolist() == [1.0, 0.0, 1.0, 0.0, 1.0]
    assert batch["frames"][:, 0, 0, 0, 0].tolist() == [7, 0, 9, 0, len("swscale_area")]
    assert source.decode_report().dead == {"ccrash": "decoder_crashed"}
    source.require_one_clip()


def test_a_folder_of_which_no_clip_can_be_read_ends_the_run(tmp_path) -> None:
    clips = [Clip(clip_id=n, video_uri=str(tmp_path / f"{n}.mp4")) for n in ("b", "a")]
    source = DecodedSource(clips, settings(), backend="pyav", device="cpu")
    source.require_one_clip()  # nothing was tried yet
    (batch,) = load_ahead(source, [np.arange(2)], epoch=0, num_threads=1)
    assert batch["weights"].tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match=r"none of 2 clips can be decoded; a: .*a\.mp4"):
        source.require_one_clip()


class CountingDecoder:
    """In this process, and it knows how often it was asked."""

    num_asked = 0

    def iter_spans(self, request):
        CountingDecoder.num_asked += 1
        return iter_spans(request)


def test_examples_are_the_same_with_the_cache_and_each_clip_is_decoded_once(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(frame_cache, "_SPARE_BYTES", 0)
    monkeypatch.setattr(data, "MAX_FRAMES", 30)
    path = str(write_video(tmp_path / "a.mp4", VideoSpec(num_frames=40, picture="gradient")))
    spans = {"all": (0, None), "amid": (0.2, 1.2), "few": (0, 0.12), "late": (9, None)}
    clips = [
        Clip(clip_id=name, video_uri=path, start_s=start_s, end_s=end_s)
        for name, (start_s, end_s) in spans.items()
    ]
    numbers = np.arange(len(clips))
    where = {"backend": "pyav", "device": "cpu", "new_decoder": lambda _device: CountingDecoder()}
    augment = settings(decode_size=16, min_crop_scale=0.5)
    plain = DecodedSource(clips, augment, **where)
    cached = DecodedSource(clips, augment, cache=FrameCache(tmp_path / "kept", 1 << 30), **where)
    full = DecodedSource(clips, augment, cache=FrameCache(tmp_path / "none", 1), **where)
    for epoch in (0, 1, 2, None, None):
        expected = plain.load(numbers, epoch)
        assert expected["weights"].tolist() == [1.0, 1.0, 1.0, 0.0]
        for source in (cached, full):
            asked = CountingDecoder.num_asked
            found = source.load(numbers, epoch)
            assert torch.equal(found["frames"], expected["frames"])
            assert source.frames_read == plain.frames_read
            num_asked = CountingDecoder.num_asked - asked
        assert num_asked == len(clips)
    # Those of 8 pixels for evaluation and of 16 for training; the first clip is longer than what is kept.
    kept = sorted((tmp_path / "kept").glob("*.npy"))
    assert sorted(len(np.load(path)) for path in kept) == [3, 3, 25, 25]
    assert not list((tmp_path / "none").glob("*"))
    assert cached.backends_used == {"pyav"}

    again = DecodedSource(
        clips[1:3], augment, cache=FrameCache(tmp_path / "kept", 1 << 30), **where
    )
    asked = CountingDecoder.num_asked
    assert torch.equal(
        again.load(np.arange(2), 1)["frames"], plain.load(np.array([1, 2]), 1)["frames"]
    )
    assert CountingDecoder.num_asked == asked + 2  # those of the plain one
    kept[0].write_bytes(kept[0].read_bytes()[:-1])  # a damaged file is decoded again
    for epoch in (1, None):
        expected = plain.load(np.array([1, 2]), epoch)["frames"]
        assert torch.equal(again.load(np.arange(2), epoch)["frames"], expected)


def test_cached_vectors_of_another_resize_are_not_reused(tmp_path) -> None:
    (tmp_path / "weights").write_bytes(b"the same")
    config = FrameTemporalConfig(num_frames=4, embedding_dim=8, depth=1)
    plain = VectorSource(config=config, weights_path=str(tmp_path / "weights"), num_positions=12)
    keys = {source.key for source in (plain, replace(plain, resize="swscale_area"), replace(plain))}
    assert len(keys) == 2


def test_an_error_while_loading_comes_out(source) -> None:
    steps = [np.array([0]), np.array([99]), np.array([1])]
    with pytest.raises(IndexError):
        list(load_ahead(source, steps, epoch=None, num_threads=2))


def test_balanced_order_gives_every_label_its_share_and_every_clip_its_turn() -> None:
    labels = np.array([0] * 20 + [1] * 3 + [2] * 8)
    seen = set()
    for seed in range(30):
        order = balanced_order(labels, np.random.default_rng(seed))
        assert len(order) == len(labels)
        counts = np.bincount(labels[order])
        assert counts.max() - counts.min() <= 1
        assert counts.sum() == 31
        for label in (0, 1, 2):  # nobody comes twice before all of a label came once
            times = np.bincount(order, minlength=31)[labels == label]
            assert times.max() - times.min() <= 1
        seen |= set(order.tolist())
    assert seen == set(range(31))
