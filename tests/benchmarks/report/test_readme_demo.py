"""The README's figures come from the newest record of the demo, and from nothing else."""

import json
from pathlib import Path

import pytest

from benchmarks.harness.thresholds import Bar
from benchmarks.report.readme_demo import BEGIN, END, update_readme

BAR = Bar(
    benchmark="demo", metric="top1", hardware="", unit="percent", title="Named", meaning="", min=0.75
)  # fmt: skip


def record(day: int, top1: float) -> dict:
    figures = ("composed", "mean", "text_only", "video_only", "raw")
    return {
        "benchmark": "demo",
        "recorded_at": f"2026-11-{day:02d}T10:00:00+00:00",
        "hardware": "cpu",
        "metrics": {
            "top1": top1,
            "clips_indexed": 12,
            "num_classes": 3,
            "dead_letters": 0,
            "seconds_total": 75.0,
            **{f"map50_{name}": 0.1 * number for number, name in enumerate(figures)},
        },
    }


def readme_with(tmp_path: Path, *records: dict) -> Path:
    results = tmp_path / "results"
    results.mkdir()
    for number, one in enumerate(records):
        (results / f"demo_{number}.json").write_text(json.dumps(one))
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    return update_readme(readme, results, bars=[BAR])


def test_the_newest_record_is_quoted_with_its_verdict(tmp_path: Path) -> None:
    text = readme_with(tmp_path, record(20, 0.9), record(21, 0.5)).read_text()
    assert "| Named | 50.0 % | at least 75 % | fail |" in text
    assert "1 min 15 s" in text
    assert "90.0 %" not in text
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")


def test_without_a_record_it_says_so(tmp_path: Path) -> None:
    assert "No record yet" in readme_with(tmp_path).read_text()


def test_a_readme_without_marks_is_refused(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("nothing here")
    with pytest.raises(ValueError, match="must hold"):
        update_readme(readme, tmp_path, bars=[BAR])
