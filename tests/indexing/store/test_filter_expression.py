"""Conditions of many parts, as Milvus Lite and a Milvus server take them."""

import numpy as np
import pytest

from encoders.clips import Clip
from indexing.search.filters import MAX_VALUES, FilterFields
from indexing.store.collection import open_collection
from indexing.store.filter_expression import any_of, begins_with
from indexing.store.rows import collection_row

DIM = 8
NUM_ROWS = 300
SCORES = [*(f"{i / 10 - 5:.1f}" for i in range(NUM_ROWS - 4)), "1e-05", "unknown", "7", "1000000.0"]


def test_one_condition_stays_itself_and_many_nest_by_their_logarithm() -> None:
    assert any_of(["a"]) == "a"
    assert any_of(["a", "b", "c"]) == "(a or (b or c))"
    expression = any_of([f"x == {i}" for i in range(1024)])
    depths = np.cumsum([{"(": 1, ")": -1}.get(letter, 0) for letter in expression])
    assert depths.max() == 10
    assert sorted(expression.replace("(", "").replace(")", "").split(" or ")) == sorted(
        f"x == {i}" for i in range(1024)
    )


@pytest.fixture(scope="module")
def collection(milvus_uri):
    with open_collection(milvus_uri, "filtered") as opened:
        opened.create_or_check(encoder_id="encoder-1", embedding_dim=DIM)
        opened.upsert(
            [
                collection_row(
                    Clip(
                        clip_id=f"clip {i}",
                        video_uri="v",
                        end_s=i + 1.0 if i % 2 else None,
                        attributes={"angle": str(i), "score": SCORES[i]} if i % 7 else {},
                    ),
                    key=str(i),
                    embedding_D=np.eye(DIM)[i % DIM],
                    backend="",
                    precision="",
                )
                for i in range(NUM_ROWS)
            ]
        )
        yield opened


@pytest.mark.parametrize("num_values", [1, 49, MAX_VALUES])
@pytest.mark.parametrize("name", ["angle", "clip_id"])
def test_a_filter_takes_as_many_values_as_it_promises(collection, name, num_values) -> None:
    fields = FilterFields(attributes={"angle": tuple(map(str, range(NUM_ROWS)))})
    given = range(20, 20 + num_values)
    values = [str(i) if name == "angle" else f"clip {i}" for i in given]
    wanted = {i for i in given if i % 7 or name == "clip_id"}
    condition = fields.compile({name: values}).condition
    assert {int(row["clip_key"]) for row in collection.rows(condition=condition)} == wanted
    hits = collection.nearest_many(np.eye(DIM)[:1], limit=NUM_ROWS, condition=condition)[0]
    assert {int(row["clip_key"]) for _, row in hits} == wanted


@pytest.mark.parametrize(
    ("low", "high"), [(10, 250), (0, 5), (None, 12.3), (-4.2, 0), (95, 105), (2, None), (3, 3)]
)
def test_a_range_finds_the_numbers_in_it(collection, low, high) -> None:
    values = {"angle": tuple(map(str, range(NUM_ROWS))), "score": tuple(sorted(set(SCORES)))}
    number = {i: {"angle": i, "score": float(SCORES[i].replace("unknown", "nan"))} for i in range(NUM_ROWS)}  # fmt: skip
    least, most = -np.inf if low is None else low, np.inf if high is None else high
    for name in values:
        wanted = {i for i in range(NUM_ROWS) if i % 7 and least <= number[i][name] <= most}
        if not wanted:
            continue
        condition = FilterFields(attributes=values).compile({name: (low, high)}).condition
        assert {int(row["clip_key"]) for row in collection.rows(condition=condition)} == wanted


@pytest.mark.parametrize(("low", "high"), [(None, 10), (0, 10), (-1, None), (250, None)])
def test_a_clip_to_the_end_of_its_video_has_no_end_that_a_range_takes_in(
    collection, low, high
) -> None:
    least, most = -np.inf if low is None else low, np.inf if high is None else high
    wanted = {i for i in range(1, NUM_ROWS, 2) if least <= i + 1 <= most}
    condition = FilterFields().compile({"end_s": (low, high)}).condition
    assert {int(row["clip_key"]) for row in collection.rows(condition=condition)} == wanted


@pytest.mark.parametrize("text", ["clip 1", "clip_", "cl%", "clip 299", "clip"])
def test_a_beginning_is_taken_letter_by_letter(collection, text) -> None:
    found = collection.rows(condition=begins_with("clip_id", text))
    wanted = {i for i in range(NUM_ROWS) if f"clip {i}".startswith(text)}
    assert {int(row["clip_key"]) for row in found} == wanted


def test_a_range_over_thousands_of_scores_takes_a_comparison_for_each_integer_part() -> None:
    fields = FilterFields(attributes={"score": tuple(f"{i / 1000:.3f}" for i in range(10_000))})
    condition = fields.compile({"score": (1.5, 9.2)}).condition
    assert condition == '(attributes["score"] >= "1.500" and attributes["score"] <= "9.200")'
    scattered = FilterFields(attributes={"n": tuple(str(i) for i in range(100_000))})
    with pytest.raises(
        ValueError, match=r"filter 'n' is \(2, 50123\), which takes \d+ comparisons"
    ):
        scattered.compile({"n": (2, 50_123)})
