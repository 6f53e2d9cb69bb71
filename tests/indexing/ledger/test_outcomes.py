from pathlib import Path

import numpy as np
import pytest

from encoders.clips import Clip
from encoders.stages.base import NO_ERROR
from indexing.ledger.ledger import Ledger
from indexing.ledger.outcomes import (
    checked_reasons,
    dead_letters_of,
    dead_to_retry,
    outcomes_of_batch,
)
from indexing.ledger.planned_clip import plan_clips
from indexing.ledger.reconcile import compare
from indexing.sources.content import Content

CLIPS = {name: Clip(clip_id=name, video_uri=f"/{name}.mp4") for name in ("a", "b", "c", "d")}


def planned():
    contents = {
        clip.video_uri: Content(
            content_hash=name, stamp=None, problem="gone" if name == "d" else ""
        )
        for name, clip in CLIPS.items()
    }
    return plan_clips(list(CLIPS.values()), contents, encoder_id="e")


def test_batches_become_lines_and_lines_become_dead_letters_by_reason(tmp_path: Path) -> None:
    key = {one.clip.clip_id: one.clip_key for one in planned()}
    batch = {
        "clip_id": np.array(["a", "b", "c"], object),
        "clip_key": np.array([key[name] for name in "abc"], object),
        "video_uri": np.array([CLIPS[name].video_uri for name in "abc"], object),
        "row_digest": np.array(["d"] * 3, object),
        "error": np.array(
            [
                NO_ERROR,
                {"stage": "decode", "reason": "too_short", "detail": "1 frame"},
                {"stage": "fetch", "reason": "fetch_failed", "detail": "404"},
            ]
        ),
    }
    ledger = Ledger(tmp_path)
    ledger.record(outcomes_of_batch(batch))
    found = compare(planned(), [(key["a"], "a")], dead_keys=ledger.dead_keys())
    letters = {
        one.clip_id: (one.error.stage, one.error.reason) for one in dead_letters_of(found, ledger)
    }
    assert letters == {
        "b": ("decode", "too_short"),
        "c": ("fetch", "fetch_failed"),
        "d": ("plan", "fetch_failed"),
    }
    for reasons, names in (((), ""), (("too_short",), "b"), (("all",), "bc")):
        again = dead_to_retry(found.dead, ledger, reasons)
        assert "".join(one.clip.clip_id for one in again) == names


def test_a_reason_that_no_dead_letter_can_have_is_refused() -> None:
    assert checked_reasons(["all", "fetch_failed"]) == ("all", "fetch_failed")
    with pytest.raises(ValueError, match="'tired' is unknown"):
        checked_reasons(["tired"])
