"""Conditions of many parts, as Milvus Lite and a Milvus server take them."""

import numpy as np
import pytest

from encoders.clips import Clip
from indexing.search.filters import MAX_VALUES, FilterFields
from indexing.store.collection import open_collection
from indexing.store.filter_expression import any_of
from indexing.store.rows import collection_row

DIM = 8
NUM_ROWS = 300


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
                    Clip(clip_id=f"clip {i}", video_uri="v", attributes={"angle": str(i)}),
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
    wanted = range(20, 20 + num_values)
    values = [str(i) if name == "angle" else f"clip {i}" for i in wanted]
    condition = fields.compile({name: values}).condition
    assert {int(row["clip_key"]) for row in collection.rows(condition=condition)} == set(wanted)
    hits = collection.nearest_many(np.eye(DIM)[:1], limit=NUM_ROWS, condition=condition)[0]
    assert {int(row["clip_key"]) for _, row in hits} == set(wanted)


def test_a_range_of_many_values_is_found(collection) -> None:
    fields = FilterFields(attributes={"angle": tuple(map(str, range(NUM_ROWS)))})
    condition = fields.compile({"angle": (10, 250)}).condition
    assert collection.count(condition=condition) == 241
