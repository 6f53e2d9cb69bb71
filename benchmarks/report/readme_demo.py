"""The demo's figures in README.md, generated from its newest record and never typed by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.record import RESULTS_DIR, read_records
from benchmarks.harness.thresholds import Bar, format_duration, format_figure, judge, read_bars
from benchmarks.report.tables import replace_between
from cluster.storage import write_atomic

README_PATH = Path(__file__).resolve().parent.parent.parent / "README.md"
BEGIN, END = "<!-- demo: begin -->", "<!-- demo: end -->"
_ROWS = {
    "map50_composed": "clip and edit text, composed",
    "map50_mean": "mean of two linear projections",
    "map50_text_only": "edit text alone",
    "map50_video_only": "clip alone",
    "map50_raw": "the query clip's own vector",
}


def update_readme(
    readme: Path = README_PATH, results: Path = RESULTS_DIR, *, bars: Sequence[Bar] | None = None
) -> Path:
    """Replace what stands between the marks of README.md; without a record of the demo it says so."""
    records = [record for record in read_records(results) if record["benchmark"] == "demo"]
    block = demo_block(records[-1], read_bars() if bars is None else bars) if records else (
        "No record yet: `tfcovr demo --record`, then `tfcovr report results`."
    )  # fmt: skip
    write_atomic(readme, replace_between(readme, block, begin=BEGIN, end=END))
    return readme


def demo_block(record: Mapping[str, Any], bars: Sequence[Bar]) -> str:
    """What the run reached beside what it must reach, and mAP@50 of every row."""
    metrics = record["metrics"]
    hardware = record["hardware"]
    lines = [
        f"The run of {record['recorded_at'][:10]} on {hardware} "
        f"([record](benchmarks/results/{record['file']})): {metrics['clips_indexed']:.0f} videos of "
        f"{metrics['num_classes']:.0f} kinds of dives, {metrics['dead_letters']:.0f} dead letters, "
        f"{format_duration(metrics['seconds_total'])}.",
        "",
        "| what | measured | must be | |",
        "|---|---:|---|---|",
    ]
    for verdict in judge(bars, benchmark="demo", hardware=hardware, metrics=metrics):
        value = "" if verdict.value is None else format_figure(verdict.value, verdict.bar.unit)
        lines.append(f"| {verdict.bar.title} | {value} | {verdict.bar.rule()} | {verdict.state} |")
    lines += ["", "| held-out queries, exact search | mAP@50 |", "|---|---:|"]
    lines += [
        f"| {title} | {format_figure(metrics[name], 'percent')} |" for name, title in _ROWS.items()
    ]
    return "\n".join(lines)
