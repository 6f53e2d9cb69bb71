"""Limits of media files hold wherever training reads clips, and what one run's limits refused the next run reads."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import save_file

from benchmarks.commands.build import Config
from benchmarks.demo.build import plan_parts
from benchmarks.demo.build_encoder import Paths
from encoders.clips import Clip, read_clips, write_clips
from encoders.decoding.isolated import iter_clip_frames
from encoders.media.container import MediaLimits
from encoders.media.sampling import SamplingConfig
from encoders.video_encoder.config import FrameTemporalConfig, MomentConfig
from encoders.video_encoder.registry import build_video_encoder
from tests.support.small_videos import write_archive
from training.configs import AugmentConfig, LaunchSettings
from training.stage1.data import DecodedSource, ExampleSettings
from training.stage1.frame_vectors import VectorSource, keep_frame_vectors, read_frame_vectors
from training.stage1.moments import read_timelines
from training.vectors.compute import VectorsConfig, compute_vectors
from training.vectors.tables import read_unit_vectors

TIGHT = MediaLimits(max_pixels=1_000)
"""The pictures of these videos have 2,304."""


@pytest.fixture
def clips(tmp_path) -> list[Clip]:
    path = write_archive(tmp_path / "archive", num_videos=2, clips_per_video=2)
    found = read_clips(path)
    one_frame = replace(found[0], clip_id="one", end_s=found[0].start_s + 0.04)
    return [*found, one_frame]


def launch(limits: MediaLimits) -> LaunchSettings:
    return LaunchSettings(show_progress=False, limits=limits)


def test_vectors_that_a_limit_refused_are_computed_under_another(tiny_bundle, clips, tmp_path):
    config = VectorsConfig(clips=tmp_path, bundle=tiny_bundle, out=tmp_path / "vectors.parquet")
    with pytest.raises(ValueError, match="max_pixels is 1000; the file has 2304"):
        compute_vectors(replace(config, launch=launch(TIGHT)), clips)
    usual = compute_vectors(replace(config, launch=launch(MediaLimits())), clips)
    assert (usual.num_vectors, usual.num_dead) == (4, 1)
    again = compute_vectors(replace(config, launch=launch(MediaLimits())), clips)
    assert (again.num_dead, again.num_computed) == (1, 0)
    wide = replace(config, launch=launch(MediaLimits(min_frames_per_clip=1)))
    summary = compute_vectors(wide, clips)
    assert (summary.num_vectors, summary.num_dead, summary.num_computed) == (5, 0, 1)
    assert sorted(read_unit_vectors(config.out)) == sorted(clip.clip_id for clip in clips)
    assert compute_vectors(wide, clips).num_computed == 0


def test_frame_vectors_that_a_limit_refused_are_computed_under_another(clips, tmp_path):
    config = FrameTemporalConfig(num_frames=4, embedding_dim=8, depth=1)
    weights = tmp_path / "weights"
    save_file(build_video_encoder(config).image.state_dict(), weights)  # pyright: ignore[reportArgumentType]
    source = VectorSource(config=config, weights_path=str(weights), num_positions=4)
    keep_frame_vectors(clips, source, tmp_path / "kept", launch(MediaLimits()))
    kept = read_frame_vectors(clips, source, tmp_path / "kept")
    assert [letter.error.reason for letter in kept.dead] == ["too_short"]
    keep_frame_vectors(clips, source, tmp_path / "kept", launch(MediaLimits(min_frames_per_clip=1)))
    kept = read_frame_vectors(clips, source, tmp_path / "kept")
    assert kept.dead == ()
    assert kept.clip_ids == tuple(sorted(clip.clip_id for clip in clips))


def test_frames_of_stage_1_and_glances_of_moments_are_read_within_the_limits(clips):
    augment = AugmentConfig()
    for limits, num_read in ((TIGHT, 0), (MediaLimits(), 2)):
        settings = ExampleSettings(
            num_frames=2, image_size=8, augment=augment, seed=0, limits=limits
        )
        source = DecodedSource(clips, settings, backend="pyav", device="cpu")
        assert source.load(np.arange(2), None)["weights"].sum() == num_read
    assert len(read_timelines(clips, MomentConfig())) == 2
    with pytest.raises(ValueError, match="none of 2 videos can be decoded"):
        read_timelines(clips, MomentConfig(), limits=TIGHT)


def test_exports_and_reports_read_what_an_archive_holds_under_any_limits(clips):
    sampling = SamplingConfig(num_frames=2, frame_size=8)
    assert all(isinstance(f, np.ndarray) for _clip, f in iter_clip_frames(clips, sampling))


def test_a_build_gives_its_limits_to_every_command_that_decodes(tmp_path):
    paths = Paths(tmp_path)
    write_clips(paths.labelled, [Clip(clip_id="a", video_uri="v", label="1", split="train")])
    write_clips(paths.clips, [Clip(clip_id="a", video_uri="v")])
    labels = tmp_path / "labels.csv"
    wide = MediaLimits(max_frame_rate=500.0)
    given = {}
    for limits in (MediaLimits(), wide):
        config = Config(videos=str(tmp_path), out=tmp_path / "out", labels=labels, limits=limits)
        parts = {part.name: str(part.key) for part in plan_parts(config, paths)}
        steps = ("stage1", "vectors", "export", "index")
        given[limits.max_frame_rate] = [
            parts[name].count("limits.max-frame-rate', '500.0'") for name in steps
        ]
    assert given[MediaLimits().max_frame_rate] == [0, 0, 0, 0]
    assert given[500.0] == [1, 2, 2, 3]  # a step's key has all the commands before it
