"""The tally of a run: what it adds up, and when it can say what a longer run would come to."""

import json
from dataclasses import fields

import numpy as np
import pytest

from encoders.stages.base import NO_ERROR
from indexing.ledger import summary
from indexing.ledger.summary import SUMMARY, IndexSummary, Tally, write_summary


def batch(num_clips: int) -> dict[str, np.ndarray]:
    words = {name: np.array(["x"] * num_clips) for name in ("embed_backend", "decode_backend")}
    counts = ("frames_decoded", "frames_used", "canary_min_cosine")
    times = [
        f"{name}_{what}"
        for name in ("decode", "embed", "write")
        for what in ("busy_s", "ceiling_per_s")
    ]
    fetch = ("fetch_busy_s", "fetch_bytes", "fetch_ceiling_bytes_per_s")
    numbers = {name: np.ones(num_clips) for name in (*counts, *times, *fetch)}
    return words | numbers | {"error": np.array([NO_ERROR] * num_clips)}


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(summary.time, "perf_counter", lambda: now[0])
    return now


def test_the_warm_rate_leaves_out_the_start_and_the_first_batch(clock):
    tally = Tally()
    for clock[0], num_clips in ((110.0, 8), (115.0, 20), (120.0, 20)):
        tally.add(batch(num_clips))
    assert tally.written == 48
    assert tally.clips_per_s_warm() == pytest.approx(40 / 10)


def test_the_ceiling_of_fetching_is_that_of_its_first_seconds_in_clips_of_this_archive():
    tally = Tally()
    for ceiling, num_bytes in ((3e6, 4e5), (5e6, 6e5), (0.0, 5e5)):  # 0 = nothing fetched yet
        tally.add(
            batch(10)
            | {
                "fetch_ceiling_bytes_per_s": np.full(10, ceiling),
                "fetch_bytes": np.full(10, num_bytes),
            }
        )
    assert tally.ceilings_per_s()["fetch"] == pytest.approx(4e6 / 5e5)
    local = Tally()
    nothing = {"fetch_ceiling_bytes_per_s": np.zeros(4), "fetch_bytes": np.zeros(4)}
    local.add(batch(4) | nothing)
    assert "fetch" not in local.ceilings_per_s()


def test_batches_that_come_at_once_at_the_end_say_nothing_about_a_longer_run(clock):
    tally = Tally()
    for clock[0] in (200.0, 200.01):
        tally.add(batch(24))
    assert tally.clips_per_s_warm() == 0


def made_summary(**values: object) -> IndexSummary:
    empty = {"Mapping": {}, "tuple": ()}
    zeros = {
        one.name: empty.get(str(one.type).partition("[")[0].rpartition(".")[2], 0)
        for one in fields(IndexSummary)
    }
    return IndexSummary(**zeros | {"milvus_uri": "", "collection": "clips"} | values)  # type: ignore[arg-type]


def test_a_run_without_work_leaves_the_figures_of_the_one_before(tmp_path) -> None:
    write_summary(tmp_path, made_summary(clips_in=5, written=5, seconds=2.0, rows_in_collection=5))
    write_summary(tmp_path, made_summary(clips_in=4, skipped=4, orphaned=1, rows_in_collection=5))
    read = json.loads((tmp_path / SUMMARY).read_text())
    assert (read["written"], read["seconds"], read["orphaned"]) == (5, 2.0, 0)
    assert (read["now"]["clips_in"], read["now"]["orphaned"]) == (4, 1)
    assert "orphaned: 1 rows" in "\n".join(made_summary(orphaned=1).lines())


def test_a_password_of_milvus_is_neither_printed_nor_written(tmp_path) -> None:
    made = made_summary(milvus_uri="http://root:hunter2@milvus:19530")
    write_summary(tmp_path, made)
    assert "http://milvus:19530" in "\n".join(made.lines())
    text = (tmp_path / SUMMARY).read_text() + "\n".join(made.lines())
    assert "hunter2" not in text
