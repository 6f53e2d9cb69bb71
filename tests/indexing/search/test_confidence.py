"""What is refused, and that the verdict follows the probability of the best hit."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from encoders.bundle.calibration import Calibration, ScoreCalibration, fit_clips, fit_texts
from indexing.search.confidence import Confidence
from indexing.search.types import ComposedQuery, Hit

RNG = np.random.default_rng(4)
CLIPS = RNG.normal(size=(200, 3)) @ np.eye(3, 6)
TEXTS = {"in tuck": np.eye(4)[0], "spaghetti": np.eye(4)[2]}
SCORE = ScoreCalibration(
    slope=10.0, bias=-5.0, min_cosines=(0.3, 0.36, 0.4, 0.44, 0.48), num_clips=200
)


def confidence(scores: dict[Any, ScoreCalibration]) -> Confidence:
    calibration = Calibration(
        scores=scores, clips=fit_clips(CLIPS, CLIPS), texts=fit_texts(np.eye(4)[:2], np.eye(4)[2:])
    )
    num_clips = {"": 200, 'split == "test"': 50}
    snapshot = SimpleNamespace(samples=CLIPS, num_matching=num_clips.__getitem__)
    encoder = SimpleNamespace(text_vectors=lambda texts: np.stack([TEXTS[text] for text in texts]))
    return Confidence(calibration, cast("Any", encoder), cast("Any", snapshot))


def answer(
    judge: Confidence, query: ComposedQuery, cosines: list[float], clip_D=None, condition=""
) -> Any:
    unrelated = judge.unrelated(query, clip_D)
    likely = judge.probabilities(query, unrelated, np.array(cosines))
    hits = tuple(
        Hit(clip_id="c", video_uri="", start_s=0, end_s=None, score=score, probability=probability)
        for score, probability in zip(cosines, likely, strict=True)
    )
    return judge.mismatch(query, hits, unrelated, condition), likely


@pytest.mark.parametrize(
    ("how", "cosines", "is_far", "expected"),
    [
        ({"clip": "a", "edits": ("in tuck",)}, [0.3, 0.45], False, ""),
        ({"clip": "a", "edits": ("in tuck",)}, [0.3, 0.39], False, "score"),
        ({"clip": "a", "edits": ("in tuck",)}, [], False, "filters"),
        ({"clip": "a", "edits": ("in tuck", "spaghetti")}, [0.9], False, "text"),
        ({"edits": ("spaghetti",)}, [0.9], False, "text"),
        ({"clip": b"video", "edits": ("in tuck",)}, [0.9], True, "clip"),
        ({"clip": b"video"}, [0.9], True, "clip"),
    ],
)
def test_the_reason_of_a_refusal(how, cosines, is_far, expected) -> None:
    clip_D = np.eye(6)[5] * 9 if is_far else CLIPS[0]
    judge = confidence({"composed": SCORE, "clip": SCORE})
    mismatch, likely = answer(judge, ComposedQuery(**how), cosines, clip_D)
    assert mismatch == expected
    assert all(p == 0 for p in likely) == (mismatch in ("text", "clip", "filters"))


def test_among_fewer_clips_a_lower_cosine_is_believed() -> None:
    judge = confidence({"composed": SCORE})
    query = ComposedQuery(clip="a", edits=("in tuck",))
    assert answer(judge, query, [0.35])[0] == "score"
    assert answer(judge, query, [0.35], condition='split == "test"')[0] == ""


def test_probabilities_are_those_of_the_kind_of_query() -> None:
    judge = confidence({"composed": SCORE})
    _, likely = answer(judge, ComposedQuery(clip="a", edits=("in tuck",)), [0.5])
    assert likely == [pytest.approx(0.5)]
    assert answer(judge, ComposedQuery(clip="a"), [0.5]) == (None, [None])


def test_a_bundle_without_calibration_says_nothing() -> None:
    judge = Confidence(None, cast("Any", None), cast("Any", None))
    query = ComposedQuery(edits=("spaghetti",))
    assert answer(judge, query, [0.1], np.eye(6)[5]) == (None, [None])
    assert answer(judge, query, [])[0] == "filters"


def test_clips_of_another_archive_are_not_refused_in_it() -> None:
    judge = confidence({"clip": SCORE})
    far = CLIPS * 3
    judge._snapshot = cast("Any", SimpleNamespace(samples=far))
    nearest = far[np.linalg.norm(far, axis=1).argmin()]
    assert judge.unrelated(ComposedQuery(clip=b"video"), nearest) == ""
