"""The figures and the picture of docs/indexing.md, generated from the newest records and never typed by hand."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.record import RESULTS_DIR, read_records
from benchmarks.harness.thresholds import Bar, format_figure, judge, read_bars
from benchmarks.report.tables import replace_between
from cluster.storage import write_atomic

PAGE_PATH = Path(__file__).resolve().parent.parent.parent / "docs" / "indexing.md"
BEGIN, END = "<!-- index: begin -->", "<!-- index: end -->"
PICTURE = "index_speed.png"
_SPEED, _FAULTS, _MUTANTS = "index_speed", "index_faults", "index_mutants"
# What the names in a record mean to a reader; the first one is ours, the others stand beside it.
_DECODE_NAMES = {
    "ours": "tfcovr",
    "decord": "decord",
    "torchcodec": "torchcodec",
    "pyav_full": "PyAV, whole file",
    "pyav_seek": "PyAV, a seek per clip",
    "libav_planned": "libavcodec alone",
}
_FLOW_NAMES = {"flow": "tfcovr", "sequential": "plain script", "limit": "the cores' limit"}
_PANELS = {
    "short": "decode: short clips",
    "dense": "decode: dense spans of a long video",
    "sparse": "decode: sparse spans of it",
}
_OURS, _OTHERS, _LIMIT = "#0b6e99", "#b8c4cc", "#e3c16f"


def update_index(
    page: Path = PAGE_PATH, results: Path = RESULTS_DIR, *, bars: Sequence[Bar] | None = None
) -> list[Path]:
    """Replace what stands between the marks of docs/indexing.md and draw the picture beside the records; the files that were written."""
    newest = {record["benchmark"]: record for record in read_records(results)}
    speed = newest.get(_SPEED)
    written = []
    if speed is not None:
        write_atomic(results / PICTURE, draw_speed(speed["metrics"]))
        written.append(results / PICTURE)
    newest_records = [newest[name] for name in (_SPEED, _FAULTS, _MUTANTS) if name in newest]
    block = index_block(newest_records, read_bars() if bars is None else bars)
    write_atomic(page, replace_between(page, block, begin=BEGIN, end=END))
    return [*written, page]


def index_block(records: Sequence[Mapping[str, Any]], bars: Sequence[Bar]) -> str:
    """The picture, and each figure beside what it must be."""
    if not records:
        return (
            "No record yet: `python -m benchmarks.throughput.index`, then `tfcovr report results`."
        )
    lines = []
    if any(record["benchmark"] == _SPEED for record in records):
        lines += [f"![Clips per second beside other ways](../benchmarks/results/{PICTURE})", ""]
    links = (
        f"[{record['benchmark']}](../benchmarks/results/{record['file']}) of {record['recorded_at'][:10]} on {record['hardware']}"
        for record in records
    )
    lines += [f"Records: {'; '.join(links)}.", ""]
    lines += ["| what | measured | must be | |", "|---|---:|---|---|"]
    for record in records:
        verdicts = judge(
            bars,
            benchmark=record["benchmark"],
            hardware=record["hardware"],
            metrics=record["metrics"],
        )
        for verdict in verdicts:
            unit = verdict.bar.unit
            value = "" if verdict.value is None else format_figure(verdict.value, unit)
            lines.append(
                f"| {verdict.bar.title} | {value} | {verdict.bar.rule()} | {verdict.state} |"
            )
    for record in records:
        lines += _with_pillow(record["metrics"])
    return "\n".join(lines)


def _with_pillow(metrics: Mapping[str, Any]) -> list[str]:
    """The same of the default resize, which no bar is about."""
    ratios = [metrics.get(f"decode_ratio_{name}_pillow") for name in _PANELS]
    of_libav = metrics.get("decode_dense_of_libav_pillow")
    if None in ratios or of_libav is None:
        return []
    ratios_text = ", ".join(
        f"{name} {ratio:.2f}" for name, ratio in zip(_PANELS, ratios, strict=True)
    )
    return [
        "",
        f"With the default resize, Pillow's bicubic: {ratios_text} times the best peer, and {of_libav:.1%} of what libavcodec alone "
        "reaches, which resizes nothing.",
    ]


def draw_speed(metrics: Mapping[str, Any]) -> bytes:
    """A panel for each archive of the decode benchmark and one for the whole flow, clips/s, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {
        title: _medians(metrics.get(f"decode_{name}_clips_per_s", {}), _DECODE_NAMES)
        for name, title in _PANELS.items()
    }
    panels["the whole flow"] = _medians(metrics.get("clips_per_s", {}), _FLOW_NAMES)
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, rates) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        names = list(rates)[::-1]
        colours = [_colour(name) for name in names]
        drawn = axes.barh(names, [rates[name] for name in names], color=colours)
        axes.bar_label(drawn, fmt="%.3g", padding=3, fontsize=8)
        axes.set_title(f"{title}, clips/s", loc="left", fontsize=10)
        axes.margins(x=0.12)
        axes.tick_params(labelsize=9, length=0)
        axes.xaxis.set_visible(False)
        for side in ("top", "right", "bottom"):
            axes.spines[side].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()


def _medians(rates: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, float]:
    """In the order of `names`; a list is one rate per round."""
    medians = {}
    for key, name in names.items():
        value = rates.get(key)
        if value:
            medians[name] = (
                float(value["median"]) if isinstance(value, Mapping) else float(np.median(value))
            )
    return medians


def _colour(name: str) -> str:
    if name == _DECODE_NAMES["ours"]:
        return _OURS
    return _LIMIT if name in (_DECODE_NAMES["libav_planned"], _FLOW_NAMES["limit"]) else _OTHERS
