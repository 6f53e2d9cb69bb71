import numpy as np
import pytest

from indexing.search.attributes import AttributeReader, LabelAttributes, Value
from indexing.search.types import Reading

ATTRIBUTES = {
    "a": {"twists": "0", "position": "pike"},
    "b": {"twists": "0", "position": "tuck"},
    "c": {"twists": "2.5", "position": "pike"},
}


def reader(scale: float = 5.0) -> AttributeReader:
    return AttributeReader(
        np.eye(3), np.zeros(3), labels=("a", "b", "c"), attributes=ATTRIBUTES, scale=scale
    )


def test_marginals_are_sums_over_labels() -> None:
    vector = np.array([[0.6, 0.8, 0.0]])
    a, b, c = np.exp(5 * vector[0]) / np.exp(5 * vector[0]).sum()
    (predicted,) = reader().predict(vector)
    assert predicted["position"] == ("tuck", pytest.approx(b))
    assert predicted["twists"] == ("0", pytest.approx(a + b))
    pike = reader().probability(vector, Value(name="position", value="pike"))
    assert pike == pytest.approx([a + c])


def test_changes_are_told_first_and_set_against_what_was_asked() -> None:
    eye, one = np.eye(3), reader(50.0)
    reading = one.reading(eye[0], eye[1])  # a query that asks for tuck
    assert {r.name: (r.value, r.asked) for r in reading} == {
        "position": ("pike", "tuck"),
        "twists": ("0", None),
    }
    wrong, right = one.changes(reading, eye[[2, 1]])
    assert [change.text() for change in wrong] == [
        "twists 0 -> 2.5 (1.00)",
        "position pike (1.00)",
    ]
    assert [change.verdict for change in wrong] == ["changed though not asked", "not as asked"]
    assert [(c.name, c.verdict) for c in right] == [("position", "as asked"), ("twists", "kept")]
    assert one.changes(reading, eye[:0]) == []


def test_a_value_that_is_asked_for_and_already_there_is_as_asked() -> None:
    same = Reading(name="position", value="pike", probability=1.0, asked="pike")
    ((change,),) = reader(50.0).changes([same], np.eye(3)[:1])
    assert (change.is_change, change.verdict) == (False, "as asked")


def test_the_scale_follows_how_often_the_head_is_right() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(list("abc"), 300)
    right = np.eye(3)[["abc".index(one) for one in labels]]
    often_wrong = np.eye(3)[[("abc".index(one) + (i % 3 == 0)) % 3 for i, one in enumerate(labels)]]
    sure, unsure = reader().fit(right, labels).scale, reader().fit(often_wrong, labels).scale
    assert unsure < 3 < sure
    probability = np.exp(unsure) / (np.exp(unsure) + 2)
    assert probability == pytest.approx(2 / 3, abs=0.05)


def test_a_text_is_read_in_the_words_of_the_archive() -> None:
    one = reader()
    assert one.spoken("in pike") == Value(name="position", value="pike")
    assert one.spoken("with 2.5 twists") == Value(name="twists", value="2.5")
    assert one.spoken("2.5") is None
    assert one.spoken("pike or tuck") is None
    assert one.named("the position") == "position"
    assert one.named("pike") is None
    assert one.alternatives(Value(name="position", value="pike")) == ("tuck",)
    assert one.alternatives(Value(name="twists", value="0")) == ("with 2.5 twists",)


def test_a_text_is_read_by_what_it_does_to_clips() -> None:
    eye = np.eye(3)
    moved = np.stack([eye[2], eye[2], eye[2]])
    assert reader(50.0).read(moved, eye) == Value(name="twists", value="2.5")
    assert reader(50.0).read(eye, eye[::-1]) is None


def test_labels_have_the_attributes_of_most_of_their_clips() -> None:
    rows = [{"label": "a", "attributes": {"twists": value}} for value in ("1", "1", "2")]
    rows.append({"label": "", "attributes": {"twists": "9"}})
    counts = LabelAttributes()
    for row in rows:
        counts.add(row)
    assert counts.most_frequent() == {"a": {"twists": "1"}}
