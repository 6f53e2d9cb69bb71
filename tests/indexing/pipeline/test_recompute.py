from unittest.mock import Mock

import numpy as np
import pytest

from encoders.clips import Clip
from encoders.stages.base import ClipError
from indexing.ledger.planned_clip import PlannedClip
from indexing.pipeline import recompute
from indexing.pipeline.config import VerifyConfig
from indexing.pipeline.recompute import Recomputed, mismatch_text, sample_size


@pytest.mark.parametrize(
    ("num_clips", "size"),
    [(0, 0), (3, 3), (16, 16), (900, 16), (20_000, 20), (255_000, 255), (10_000_000, 256)],
)
def test_the_default_sample_grows_with_the_run_up_to_a_limit(num_clips: int, size: int) -> None:
    assert sample_size(num_clips) == size


def test_the_line_names_what_is_wrong_or_could_not_be_computed() -> None:
    failed = {"c": ClipError(stage="fetch", reason="fetch_failed", detail="not there")}
    right = Recomputed(num_compared=3, min_cosine=0.99991, wrong={}, failed=failed)
    assert right.line() == (
        "recomputed 3 clips: lowest cosine with their stored vectors 0.999910; 1 could not be computed again (c: fetch_failed: not "
        "there)"
    )
    wrong = {f"clip-{n:02}": 0.5 for n in range(25)}
    line = Recomputed(num_compared=30, min_cosine=0.5, wrong=wrong, failed={}).line()
    assert line == mismatch_text(wrong)
    assert line.startswith("25 stored vectors")
    assert "clip-00 (0.5000)" in line
    assert line.endswith("and 5 more")


@pytest.mark.parametrize("depends_on_start", [True, False])
def test_only_a_clip_that_decodes_otherwise_alone_is_let_off(monkeypatch, depends_on_start) -> None:
    """Both clips are stored as they were decoded together; the second comes out otherwise when it is decoded alone, or is wrong in Milvus."""
    clips = [
        PlannedClip(clip=Clip(clip_id=n, video_uri="v"), clip_key=n, content_hash="h") for n in "ab"
    ]
    right = {"a": np.float32([1, 0]), "b": np.float32([0, 1])}
    other = {"b": np.float32([1, 1])}
    stored = right if depends_on_start else right | other
    alone = right | other if depends_on_start else right
    monkeypatch.setattr(
        recompute,
        "_compute",
        lambda chosen, *_: (
            {
                c.clip.clip_id: (right if len(chosen) == 2 else alone)[c.clip.clip_id]
                for c in chosen
            },
            {},
        ),
    )
    collection = Mock(
        rows_of_keys=lambda keys: [{"clip_id": key, "embedding": stored[key]} for key in keys]
    )
    found = recompute.recompute_clips(
        clips[1:], collection, Mock(), Mock(), fetch_uris={}, beside=lambda _: clips
    )
    assert (list(found.unsteady), list(found.wrong)) == (
        (["b"], []) if depends_on_start else ([], ["b"])
    )
    assert ("damaged files" in found.line()) == depends_on_start


def test_a_negative_number_of_clips_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="recompute is -1"):
        VerifyConfig(bundle=tmp_path, clips="c", milvus_uri="m", run_dir=tmp_path, recompute=-1)
