"""The study counts answers by the performance that they show."""

import numpy as np
import pytest

from benchmarks.studies.moment_search import Gallery, Question, ask
from encoders.clips import Clip


def clip(name: str, start_s: float, end_s: float, video: str = "v", **attributes: str) -> Clip:
    return Clip(clip_id=name, video_uri=video, start_s=start_s, end_s=end_s, attributes=attributes)


TRUTH = [
    clip("own", 0, 2),
    clip("own-replay", 3, 7, replay_of="own"),
    clip("right", 20, 22),
    clip("right-replay", 23, 27, replay_of="right"),
    clip("also", 0, 2, video="w"),
]
QUESTION = Question(
    clip=TRUTH[0], edit_text="x", vector_D=np.array([1.0, 0.0]), relevant=frozenset({"right", "also"})
)  # fmt: skip


def gallery(*scored: tuple[Clip, float]) -> Gallery:
    vectors = np.array([[score, np.sqrt(1 - score**2)] for _, score in scored])
    return Gallery(clips=[c for c, _ in scored], vectors_ND=vectors, given_ND=vectors)


def test_the_true_spans_answer_each_performance_once() -> None:
    scores = (0.9, 0.85, 0.8, 0.75, 0.7)
    answers = ask(gallery(*zip(TRUTH, scores, strict=True)), TRUTH, [QUESTION])
    assert (answers.map50, answers.dead_time_share, answers.echo_at_10) == (1.0, 0.0, 0.0)
    loose = ask(gallery(*zip(TRUTH, scores, strict=True)).ungrouped(), TRUTH, [QUESTION])
    # The own replay comes first, then the answer, its replay again, and the other one.
    assert loose.map50 == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert loose.echo_at_10 == pytest.approx(1 / 4)


def test_spans_that_miss_are_wrong_and_those_outside_of_all_are_dead_time() -> None:
    found = gallery(
        (clip("early", 10, 12), 0.9),
        (clip("right", 20.5, 22.4), 0.8),
        (clip("again", 20.1, 22.5), 0.7),
        (clip("half", 1.6, 4, video="w"), 0.6),
    )
    answers = ask(found, TRUTH, [QUESTION])
    assert answers.map50 == pytest.approx((1 / 2) / 2)
    assert answers.dead_time_share == pytest.approx(2 / 4)
    merged = ask(found.merging(), TRUTH, [QUESTION])
    assert merged.dead_time_share == pytest.approx(2 / 3)
