"""The scale benchmark, small."""

from benchmarks.fidelity.triplets import TripletScale, build_at_scale, draw_clips


def test_a_small_archive_gives_what_was_asked_for():
    scale = TripletScale(num_labels=40, num_clips=2000, num_triplets=500)
    clips = draw_clips(scale)
    assert len({clip.label for clip in clips}) == 40
    assert len({tuple(clip.attributes.items()) for clip in clips}) == 40
    figures = build_at_scale(scale)
    assert figures.num_triplets == 500
    assert 3.5 < figures.mean_targets < 4.1
    assert figures.num_targets_in_query_video == 0
    assert figures.num_gallery_clips < 2000
    assert figures.peak_gb > 0.01
