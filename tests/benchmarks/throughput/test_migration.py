from pathlib import Path

import pytest

from benchmarks.throughput.scale import migration
from benchmarks.throughput.scale.migration import Config, measure
from tests.support.random_rows import write_random_rows
from training.annotations.triplets.table import Triplet, write_triplets

NUM_CLIPS = 30


def test_the_way_begins_with_one_encoder_and_ends_with_the_other(
    tmp_path: Path, monkeypatch, tiny_bundle: Path, other_bundle: Path
) -> None:
    def index(config: Config, name: str, bundle: Path) -> None:
        seed = 0 if name == "present" else 1
        write_random_rows(str(config.out / "milvus"), name, bundle, range(NUM_CLIPS), seed=seed)

    monkeypatch.setattr(migration, "_index", index)
    triplets = [
        Triplet(
            query_id=f"q{i}",
            query_clip_id=f"c{i}",
            edit_text="in tuck",
            target_clip_ids=(f"c{i + 1}", f"c{i + 2}"),
            split="test",
        )
        for i in range(NUM_CLIPS - 2)
    ]
    (tmp_path / "demo").mkdir()
    write_triplets(tmp_path / "demo" / "triplets.parquet", triplets)
    figures = measure(
        Config(
            demo=tmp_path / "demo",
            out=tmp_path / "out",
            present=tiny_bundle,
            following=other_bundle,
            num_queries=20,
        )
    )
    curve = figures["map50_by_tenth"]
    assert len(curve) == 11
    assert curve[0] == pytest.approx(figures["present_map50"])
    assert curve[-1] == pytest.approx(figures["following_map50"])
    assert len(set(curve)) > 2
    assert figures["failed_queries"] == 0
    assert figures["queries_meanwhile"] > 0
    assert figures["migration_min_share"] <= 1
    assert 0 < figures["rollback_s"] < migration._GIVE_UP_S
