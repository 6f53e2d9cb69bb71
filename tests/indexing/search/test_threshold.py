import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from indexing.search.threshold import AbstainThreshold, Verdicts, read_threshold
from indexing.search.types import Hit


def test_the_threshold_has_the_best_f1_of_those_precise_enough() -> None:
    verdicts = Verdicts(
        with_targets=np.array([0.45, 0.7, 0.8, 0.9]), without_targets=np.array([0.1, 0.2, 0.3, 0.5])
    )
    best = verdicts.best_threshold(min_precision=0.9)
    assert 0.3 < best < 0.45
    assert verdicts.precision_recall(best) == (1.0, 0.75)
    assert 0.5 < verdicts.best_threshold(min_precision=0.7) < 0.7
    hopeless = Verdicts(with_targets=np.array([0.1]), without_targets=np.array([0.9]))
    with pytest.raises(ValueError, match="precision"):
        hopeless.best_threshold()


def test_a_threshold_of_another_bundle_is_refused(tmp_path: Path) -> None:
    threshold = AbstainThreshold(
        min_score=0.5, encoder_id="e", bundle_id="b", split="test", precision=1, recall=1, num_queries=9
    )  # fmt: skip
    (tmp_path / "t.json").write_text(json.dumps(asdict(threshold)))
    read = read_threshold(tmp_path / "t.json", encoder_id="e", bundle_id="b")
    with pytest.raises(ValueError, match="calibrate"):
        read_threshold(tmp_path / "t.json", encoder_id="e", bundle_id="other")
    place = {"clip_id": "x", "video_uri": "", "start_s": 0.0, "end_s": None}
    assert read.has_match([Hit(**place, score=9.0, from_clip=0.2, from_edit=0.31)])
    assert not read.has_match([Hit(**place, score=9.0, from_clip=0.2, from_edit=0.29)])
    assert not read.has_match([])
