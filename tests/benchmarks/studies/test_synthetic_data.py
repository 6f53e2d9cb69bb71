"""The clip tells the action and the text the count; a split without an edit is refused, not searched for ever."""

import numpy as np
import pytest

from benchmarks.studies.synthetic_data import LearnableSize, make_learnable_data


def test_only_the_count_of_an_edit_s_label_changes():
    size = LearnableSize(num_clips=400, num_triplets=50, num_actions=3, vector_dim=64, noise=0.1)
    data = make_learnable_data(size)
    row = {clip_id: n for n, clip_id in enumerate(data.clip_ids)}
    for triplet in data.triplets:
        query = data.vectors_ND[row[triplet.query_clip_id]]
        first, *others = (data.vectors_ND[row[clip_id]] for clip_id in triplet.target_clip_ids)
        # What action and count both share is far nearer than what one of them changes.
        assert all(
            np.linalg.norm(first - other) < np.linalg.norm(first - query) for other in others
        )
        assert triplet.query_clip_id not in triplet.target_clip_ids
        assert triplet.split == "train" or len(triplet.target_clip_ids) >= 1
    splits = [triplet.split for triplet in data.triplets[:10]]
    assert splits == ["train"] * 8 + ["val", "test"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_actions": 39}, r"num_actions is 39 \(1 to 38\)"),
        ({"num_triplets": 3}, "num_triplets 3"),
        ({"num_clips": 20}, "20 clips are too few: no action of '(train|val|test)' has two counts"),
    ],
)
def test_sizes_that_hold_no_edit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        make_learnable_data(LearnableSize(**{"vector_dim": 4, "num_triplets": 10, **change}))
