"""Curves of known moments give them back, between the glances too."""

import numpy as np
import pytest

from encoders.metrics import temporal_iou
from encoders.video_encoder.proposals import find_moments, soft_nms

STEP_S = 0.12
TIMES_S = np.arange(200) * STEP_S
TRUE = [(2.03, 4.31, False), (4.79, 9.12, True), (12.5, 14.9, False), (14.95, 17.0, False)]


def curves(spans=TRUE) -> np.ndarray:
    probabilities_TK = np.full((len(TIMES_S), 4), 0.01)
    for start_s, end_s, is_replay in spans:
        is_in = (start_s <= TIMES_S) & (end_s > TIMES_S)
        probabilities_TK[is_in, 0] = 0.97
        probabilities_TK[is_in, 3] = 0.9 if is_replay else 0.1
        for column, at_s in ((1, start_s), (2, end_s)):
            bell = 0.95 * np.exp(-((TIMES_S - at_s) ** 2) / (2 * STEP_S**2))
            probabilities_TK[:, column] = np.maximum(probabilities_TK[:, column], bell)
    return probabilities_TK


def found(probabilities_TK, min_score=0.6):
    return find_moments(probabilities_TK, TIMES_S, duration_s=(1.0, 8.0), min_score=min_score)


def test_moments_come_back_with_their_ends_and_replays_as_such() -> None:
    moments = found(curves())
    assert [moment.is_replay for moment in moments] == [r for _, _, r in TRUE]
    for moment, (start_s, end_s, _) in zip(moments, TRUE, strict=True):
        assert moment.start_s == pytest.approx(start_s, abs=STEP_S / 3)
        assert moment.end_s == pytest.approx(end_s, abs=STEP_S / 3)
        assert 0.6 <= moment.score <= 1


def test_two_moments_with_dead_time_between_them_are_never_one() -> None:
    starts = sorted(moment.start_s for moment in found(curves(), min_score=0.3))
    assert len(starts) == len(TRUE)


def test_nothing_is_found_in_dead_time_nor_in_a_video_of_two_glances() -> None:
    assert found(curves([])) == []
    assert find_moments(curves()[:2], TIMES_S[:2], duration_s=(0, 9), min_score=0.1) == []
    assert find_moments(np.zeros((0, 4)), np.zeros(0), duration_s=(0, 9), min_score=0.1) == []


def test_soft_nms_lowers_scores_as_its_equation_says() -> None:
    rng = np.random.default_rng(0)
    spans = np.sort(rng.uniform(0, 20, (30, 2)), axis=1)
    scores = rng.uniform(0.1, 1, 30)
    wanted, left = [], dict(enumerate(scores))
    while left and max(left.values()) >= 0.2:
        best = max(left, key=left.__getitem__)
        wanted.append((best, left.pop(best)))
        for other in left:
            iou = temporal_iou(spans[[best]], spans[[other]])[0, 0]
            left[other] *= np.exp(-(iou**2) / 0.3)
    kept = soft_nms(spans, scores, min_score=0.2)
    assert [n for n, _ in kept] == [n for n, _ in wanted]
    np.testing.assert_allclose([s for _, s in kept], [s for _, s in wanted])
