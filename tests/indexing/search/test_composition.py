from types import SimpleNamespace

import numpy as np
import pytest

from encoders.query_encoder.composition import FactorComposition, given_factors
from encoders.query_encoder.factors import Factor
from indexing.search.composition import (
    FEEDBACK_STEP,
    compose_all,
    read_query,
    text_vector,
    unit,
    with_feedback,
)
from indexing.search.types import ComposedQuery

RNG = np.random.default_rng(4)
SAMPLES = unit(RNG.normal(size=(5, 6)))
CLIPS = unit(RNG.normal(size=(3, 6)))
TEXTS = {text: RNG.normal(size=6).astype(np.float32) for text in ("tuck", "twist", "back")}


class Encoder:
    """Fusion = the unit sum, so that a query can be computed by hand."""

    factors = ()
    adds_texts = False

    def given_factors(self, given):
        return given_factors(self.factors, given)

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
    found = compose_all(queries, clips, encoder, SNAPSHOT)
    return [composed.vector_D for composed in found], encoder


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


class FactorEncoder(Encoder):
    """Every clip is read as pike; "tuck" sets the position, "twist" adds one; the vector says which value was read."""

    factors = (
        Factor(name="position", values=("pike", "tuck")),
        Factor(name="twists", values=("0", "1", "2"), is_ordered=True),
    )

    def compose_factors(self, clips_ND, texts, given_NS):
        source_NS = np.tile([0.6, 0.4, 0.9, 0.1, 0.0], (len(texts), 1))
        for slots in (slice(0, 2), slice(2, 5)):
            is_given = given_NS[:, slots].any(axis=1)
            source_NS[is_given, slots] = given_NS[is_given, slots]
        target_NS, asked_NF = source_NS.copy(), np.zeros((len(texts), 2))
        for n, text in enumerate(texts):
            if text == "tuck":
                target_NS[n, :2], asked_NF[n, 0] = [0, 1], 1
            if text == "twist":
                target_NS[n, 2:], asked_NF[n, 1] = np.roll(source_NS[n, 2:], 1), 1
        query_ND = unit(clips_ND + source_NS[:, :1])
        return FactorComposition(query_ND, source_NS, target_NS, asked_NF)


def read(query: ComposedQuery):
    snapshot = SimpleNamespace(samples=SAMPLES, reader=None)
    (composed,) = compose_all([query], [CLIPS[0]], FactorEncoder(), snapshot)
    return composed, {r.name: r for r in read_query(query, CLIPS[0], composed, snapshot)}


def test_a_query_tells_what_it_read_and_what_was_asked_of_all_its_edits() -> None:
    _, readings = read(ComposedQuery(clip="a", edits=("tuck", "twist")))
    position, twists = readings["position"], readings["twists"]
    assert (position.value, position.asked, position.is_doubtful) == ("pike", "tuck", True)
    assert (twists.value, twists.asked, twists.is_doubtful) == ("0", "1", False)
    _, unasked = read(ComposedQuery(clip="a", edits=("back",)))
    assert [reading.asked for reading in unasked.values()] == [None, None]


def test_a_corrected_reading_changes_the_query_and_is_in_doubt_no_more() -> None:
    plain, _ = read(ComposedQuery(clip="a", edits=("back",)))
    corrected, readings = read(
        ComposedQuery(clip="a", edits=("back",), source={"position": "tuck"})
    )
    assert (readings["position"].value, readings["position"].is_given) == ("tuck", True)
    assert not readings["position"].is_doubtful
    assert np.abs(plain.vector_D - corrected.vector_D).max() > 0.05


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"colour": "red"}, "'colour'; its attributes must be among: position, twists"),
        ({"position": "upside down"}, "must be one of pike, tuck"),
        ({"twists": "-1"}, "must be one of 0, 1, 2"),
    ],
)
def test_a_correction_that_no_factor_has_is_refused(source, message) -> None:
    with pytest.raises(ValueError, match=message):
        read(ComposedQuery(clip="a", edits=("back",), source=source))


def test_a_fusion_without_factors_takes_no_correction() -> None:
    query = ComposedQuery(clip="a", edits=("tuck",), source={"position": "tuck"})
    with pytest.raises(ValueError, match="the fusion has no factors"):
        compose([query], [CLIPS[0]])
    with pytest.raises(ValueError, match="without a clip"):
        ComposedQuery(edits=("tuck",), source={"position": "tuck"})
