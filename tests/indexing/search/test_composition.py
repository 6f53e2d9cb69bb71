from types import SimpleNamespace

import numpy as np
import pytest

from indexing.search.composition import FEEDBACK_STEP, compose_all, text_vector, unit, with_feedback
from indexing.search.types import ComposedQuery

RNG = np.random.default_rng(4)
SAMPLES = unit(RNG.normal(size=(5, 6)))
CLIPS = unit(RNG.normal(size=(3, 6)))
TEXTS = {text: RNG.normal(size=6).astype(np.float32) for text in ("tuck", "twist", "back")}


class Encoder:
    """Fusion = the unit sum, so that a query can be computed by hand."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def text_vectors(self, texts):
        return np.stack([TEXTS[text] for text in texts])

    def fuse(self, clips_ND, texts_NE):
        return unit(clips_ND + texts_NE)

    def compose(self, clips_ND, texts):
        self.batches.append(len(texts))
        return self.fuse(clips_ND, self.text_vectors(texts))


SNAPSHOT = SimpleNamespace(samples=SAMPLES)


def compose(queries, clips):
    encoder = Encoder()
    return compose_all(queries, clips, encoder, SNAPSHOT), encoder


def test_edits_are_applied_one_after_the_other_and_all_queries_together() -> None:
    queries = [
        ComposedQuery(clip="a", edits=("tuck", "twist")),
        ComposedQuery(clip="b", edits=("back",)),
        ComposedQuery(clip="c"),
    ]
    found, encoder = compose(queries, list(CLIPS))
    twice = unit(unit(CLIPS[0] + TEXTS["tuck"]) + TEXTS["twist"])
    np.testing.assert_allclose(found[0], twice, atol=1e-6)
    np.testing.assert_allclose(found[1], unit(CLIPS[1] + TEXTS["back"]), atol=1e-6)
    np.testing.assert_allclose(found[2], CLIPS[2], atol=1e-6)
    assert encoder.batches == [2, 1]


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
def test_strength_goes_from_the_clip_through_the_edit_and_beyond(strength: float) -> None:
    query = ComposedQuery(clip="a", edits=("tuck",), strength=strength)
    (found,), _ = compose([query], [CLIPS[0]])
    edited = unit(CLIPS[0] + TEXTS["tuck"])
    np.testing.assert_allclose(found, unit(CLIPS[0] + strength * (edited - CLIPS[0])), atol=1e-6)


def test_a_text_alone_is_the_mean_over_clips_of_the_archive_and_can_be_edited() -> None:
    alone = unit(np.mean([unit(one + TEXTS["tuck"]) for one in SAMPLES], axis=0))
    np.testing.assert_allclose(text_vector("tuck", Encoder(), SNAPSHOT)[0], alone, atol=1e-6)
    (found,), _ = compose([ComposedQuery(edits=("tuck", "back"))], [None])
    np.testing.assert_allclose(found, unit(alone + TEXTS["back"]), atol=1e-6)


def test_thumbs_move_the_query_towards_what_is_liked() -> None:
    none = np.empty((0, 6), np.float32)
    np.testing.assert_allclose(with_feedback(CLIPS[0], none, none), CLIPS[0], atol=1e-6)
    both = with_feedback(CLIPS[0], CLIPS[1:2], CLIPS[2:])
    wanted = unit(CLIPS[0] + FEEDBACK_STEP * unit(CLIPS[1] - CLIPS[2]))
    np.testing.assert_allclose(both, wanted, atol=1e-6)
    assert with_feedback(CLIPS[0], CLIPS[1:2], none) @ CLIPS[1] > CLIPS[0] @ CLIPS[1]
    assert with_feedback(CLIPS[0], none, CLIPS[2:]) @ CLIPS[2] < CLIPS[0] @ CLIPS[2]
