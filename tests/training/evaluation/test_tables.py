import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from encoders import metrics
from encoders.metrics import rank_gallery
from training.annotations.triplets.table import Triplet
from training.evaluation.scores import METRICS
from training.evaluation.tables import ROW_TITLES, rows_table, verdict, write_rankings


def part_of(names):
    values = {metric: 0.123 + place / 100 for place, metric in enumerate(METRICS)}
    bounds = {f"{metric}_{side}": 1.0 for metric in METRICS for side in ("low", "high")}
    return {"rows": [{"name": name, **values, **bounds} for name in names]}


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_its_terminal_and_cuts_no_name_or_figure(width):
    out = io.StringIO()
    console = Console(file=out, width=width)
    console.print(rows_table(part_of(ROW_TITLES), title="t", width=width))
    shown = out.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    assert all(title in shown for title in ROW_TITLES.values())
    assert "15.3 [100.0, 100.0]" in shown  # map@50 is the fourth
    assert ("12.3" in shown) == (width == 120)  # map@5 only where there is room


def test_the_verdict_says_no_more_than_the_intervals():
    part = {
        "best_other": "text_only",
        "composed_over_best_other": {"value": 1.5, "low": 1.2, "high": None},
        "intervals_are_disjoint": False,
    }
    sentence = verdict(part)
    assert "1.50 times [1.20, ?]" in sentence
    assert "NOT disjoint" in sentence
    assert "are disjoint" in verdict(part | {"intervals_are_disjoint": True})
    assert "not compared" in verdict({"rows": []})
    nothing = part | {"composed_over_best_other": {"value": None, "low": None, "high": None}}
    assert "not compared" in verdict(nothing)


def unit(rng, num, width):
    vectors = rng.normal(size=(num, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("seed", range(8))
def test_equals_a_full_sort_in_python(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    num_queries, num_gallery, k = rng.integers([1, 1, 1], [30, 80, 60])
    monkeypatch.setattr(metrics, "_BLOCK_BYTES", 4 * num_gallery * 7)  # blocks of 7
    # Small integers: many exact ties, and the same product in every order of summation.
    queries = rng.integers(-2, 3, size=(num_queries, 3)).astype(np.float32)
    gallery = rng.integers(-2, 3, size=(num_gallery, 3)).astype(np.float32)
    hidden = [rng.choice(num_gallery, size=rng.integers(0, 2), replace=False) for _ in queries]
    places, scores = rank_gallery(queries, gallery, hidden=hidden, k=int(k))
    assert places.shape == scores.shape == (num_queries, min(k, num_gallery))
    for query, own, row_places, row_scores in zip(queries, hidden, places, scores, strict=True):
        allowed = [n for n in range(num_gallery) if n not in own]
        expected = sorted(allowed, key=lambda n: (-float(query @ gallery[n]), n))[:k]
        ranking = row_places[row_places >= 0].tolist()
        assert ranking == expected
        assert row_scores[: len(ranking)].tolist() == [float(query @ gallery[n]) for n in expected]
        assert np.isneginf(row_scores[len(ranking) :]).all()


def test_widths_that_differ_and_vectors_that_are_not_finite_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="queries are 4 wide and the gallery 5"):
        rank_gallery(unit(rng, 2, 4), unit(rng, 3, 5), hidden=[(), ()], k=1)
    gallery = unit(rng, 3, 4)
    gallery[1, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        rank_gallery(unit(rng, 2, 4), gallery, hidden=[(), ()], k=1)


def test_rankings_are_written_per_row_and_query(tmp_path):
    gallery_ids = ["a", "b", "c"]
    triplet = Triplet(query_id="q", query_clip_id="a", edit_text="x", target_clip_ids=("c",))
    places = np.array([[2, 1, -1]])
    scores = np.array([[0.5, 0.25, -np.inf]], np.float32)
    write_rankings(tmp_path / "r.parquet", [triplet], gallery_ids, {"raw": (places, scores)})
    (row,) = pq.read_table(tmp_path / "r.parquet").to_pylist()
    assert row["ranked_clip_ids"] == ["c", "b"]
    assert row["scores"] == [0.5, 0.25]
    assert row["is_right"] == [True, False]
    assert (row["row"], row["query_id"], row["query_clip_id"]) == ("raw", "q", "a")
