from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from indexing.search.migration.compare_collections import (
    Side,
    read_probe_queries,
    report_of,
    scores_of,
)


def side(name: str, values: np.ndarray) -> Side:
    metrics = {"map@50": values, "recall@1": (values > 0.5).astype(float)}
    return Side(collection=name, encoder_id=f"encoder-{name}", num_clips=9, values=metrics)


def test_the_verdict_follows_the_paired_interval() -> None:
    rng = np.random.default_rng(0)
    first = rng.uniform(size=200)
    better = report_of(side("a", first), side("b", first + 0.01), split="test")
    assert (
        better.verdict == "better"
    )  # far apart in pairs, although 0.01 is small beside their spread
    assert better.rows[0].difference == pytest.approx(0.01)
    assert report_of(side("b", first + 0.01), side("a", first), split="test").verdict == "worse"
    shuffled = report_of(side("a", first), side("c", rng.permutation(first)), split="test")
    assert shuffled.verdict == "not told apart"
    assert shuffled.rows[0].low < 0 < shuffled.rows[0].high


def test_scores_of_one_query() -> None:
    scores = scores_of(["x", "b", "y", "a"], {"a", "b"})
    assert scores["map@5"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert scores["recall@1"] == 0
    assert scores["recall@5"] == 1


def test_probes_are_drawn_evenly_and_a_split_without_any_is_named(tmp_path: Path) -> None:
    rows = [
        {"query_clip_id": f"q{i}", "edit_text": "t", "target_clip_ids": ["x"], "split": split}
        for i in range(10)
        for split in ("val", "test")
    ]
    path = tmp_path / "triplets.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), path)
    drawn = read_probe_queries(path, split="test", num_queries=5)
    assert [one.query_clip_id for one in drawn] == ["q0", "q2", "q4", "q6", "q8"]
    with pytest.raises(ValueError, match=r"no triplet has split 'train'; its splits: test, val"):
        read_probe_queries(path, split="train", num_queries=5)
