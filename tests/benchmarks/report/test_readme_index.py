"""The figures and the picture of indexing come from the newest records, and from nothing else."""

import io
import json
from pathlib import Path

import matplotlib.image
import pytest

from benchmarks.harness.thresholds import Bar
from benchmarks.report.readme_index import (
    BEGIN,
    END,
    PAGE_PATH,
    PICTURE,
    draw_speed,
    update_index,
)

BARS = [
    Bar(benchmark="index_speed", metric="decode_ratio_dense", hardware="", unit="times", title="Dense", meaning="", min=0.95),
    Bar(benchmark="index_faults", metric="faults_lost", hardware="", unit="count", title="Lost", meaning="", max=0),
]  # fmt: skip


def speed(day: int, ratio: float) -> dict:
    ways = {name: {"median": 10.0 + i, "p25": 9, "p75": 12} for i, name in enumerate(("ours", "decord"))}  # fmt: skip
    metrics = {f"decode_{name}_clips_per_s": ways for name in ("short", "dense", "sparse")}
    metrics |= {"clips_per_s": {"flow": [5.0, 7.0, 6.0], "sequential": [4.0], "one": []}}
    return {
        "benchmark": "index_speed",
        "recorded_at": f"2026-11-{day:02d}T10:00:00+00:00",
        "hardware": "cpu",
        "metrics": metrics | {"decode_ratio_dense": ratio},
    }


def faults(day: int, lost: int) -> dict:
    return speed(day, 1.0) | {"benchmark": "index_faults", "metrics": {"faults_lost": lost}}


@pytest.fixture
def page_with(tmp_path):
    def make(*records: dict) -> str:
        results = tmp_path / "results"
        results.mkdir()
        for number, one in enumerate(records):
            (results / f"record_{number}.json").write_text(json.dumps(one))
        page = tmp_path / "indexing.md"
        page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
        made = update_index(page, results, bars=BARS)
        assert all(path.exists() for path in made)
        assert (results / PICTURE in made) == any(r["benchmark"] == "index_speed" for r in records)
        return page.read_text()

    return make


def test_the_newest_records_are_quoted_with_their_verdicts(page_with) -> None:
    text = page_with(speed(20, 0.9), speed(21, 1.25), faults(19, 3))
    assert "| Dense | 1.25 times | at least 0.95 times | pass |" in text
    assert "| Lost | 3 | at most 0 | fail |" in text
    assert "0.90 times" not in text
    assert "](../benchmarks/results/record_1.json)" in text
    assert f"](../benchmarks/results/{PICTURE})" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text


def test_faults_alone_have_no_picture_and_no_record_is_said(page_with) -> None:
    assert "![" not in page_with(faults(19, 0))


def test_the_page_of_the_repository_has_the_marks_and_its_links_lead_to_records() -> None:
    text = PAGE_PATH.read_text()
    block = text.partition(BEGIN)[2].partition(END)[0]
    assert f"](../benchmarks/results/{PICTURE})" in block
    assert (PAGE_PATH.parent / f"../benchmarks/results/{PICTURE}").is_file()


def test_without_a_record_it_says_so(page_with) -> None:
    assert "No record yet" in page_with()


def test_the_picture_shows_what_is_there(tmp_path: Path) -> None:
    picture = matplotlib.image.imread(io.BytesIO(draw_speed(speed(20, 1.0)["metrics"])))
    assert picture.shape[1] > picture.shape[0] > 300
    assert picture[..., :3].std() > 0.05
    empty = matplotlib.image.imread(io.BytesIO(draw_speed({})))
    assert empty[..., :3].std() < picture[..., :3].std()
