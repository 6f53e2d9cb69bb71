"""A moment head in a bundle: nothing that is indexed becomes stale, and nothing wrong is loaded."""

import shutil

import numpy as np
import pytest
import torch

from encoders.bundle.card import read_card
from encoders.bundle.checks import BundleMismatchError
from encoders.bundle.folder import load_bundle
from encoders.bundle.moments import MOMENT_WEIGHTS, load_moment_head, save_moment_head
from encoders.video_encoder.config import MomentConfig
from encoders.video_encoder.moment_head import MomentHead, curves_of_video


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


def test_a_head_changes_the_bundle_id_and_not_the_encoder_id(bundle) -> None:
    before = read_card(bundle)
    with pytest.raises(BundleMismatchError, match="no moment head; train one with: tfcovr moments"):
        load_moment_head(bundle)
    for seed in (0, 1):  # the second takes the place of the first
        torch.manual_seed(seed)
        head = MomentHead(MomentConfig(width=8, duration_s=(1.0, 4.0), min_score=0.4)).eval()
        save_moment_head(bundle, head)
    card = read_card(bundle)
    assert card.encoder_id == before.encoder_id
    assert card.bundle_id != before.bundle_id
    assert card.moments == head.config
    load_bundle(bundle)
    loaded = load_moment_head(bundle)
    glances = np.random.default_rng(0).integers(0, 255, (9, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        curves_of_video(loaded, [glances]), curves_of_video(head, [glances])
    )
    (bundle / MOMENT_WEIGHTS).write_bytes(b"other")
    with pytest.raises(BundleMismatchError, match="was changed or is truncated"):
        load_moment_head(bundle)


def test_blocks_of_a_video_give_the_curves_of_the_whole() -> None:
    torch.manual_seed(0)
    head = MomentHead(MomentConfig(width=8)).eval()
    glances = np.random.default_rng(1).integers(0, 255, (50, 32, 32, 3), dtype=np.uint8)
    whole = curves_of_video(head, [glances])
    parts = curves_of_video(head, [glances[:1], glances[1:20], glances[20:]])
    assert whole.shape == (50, 4)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert curves_of_video(head, []).shape == (0, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"glances_per_s": 0.5}, "must be 1 to 60"), ({"glance_size": 40}, "multiple of 16"), ({"width": 0}, "at least 1")],
)  # fmt: skip
def test_a_config_that_cannot_be_is_refused(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        MomentConfig(**changes)
