"""Figures as the page draws them: bars with intervals in percent of a track, lines as SVG points.

Everything is plain HTML and SVG in the page's own colours, so that one file serves light and dark.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.figures import as_number

CHART_WIDTH, CHART_HEIGHT = 520, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 30
_MAX_POINTS = 240


@dataclass(frozen=True, kw_only=True, slots=True)
class IntervalBar:
    """One row of a bar plot; all positions are percents of the track's width."""

    label: str
    note: str
    text: str
    interval_text: str
    width: float
    low: float | None
    high: float | None
    chance: float | None
    is_main: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A share of 0..1 with its confidence interval, if there is one."""

    value: float
    low: float | None = None
    high: float | None = None


def read_estimate(row: Mapping[str, Any], name: str) -> Estimate | None:
    """`name` with `name`_low and `name`_high of a row; None where it was not measured."""
    value = as_number(row.get(name))
    if value is None:
        return None
    low, high = as_number(row.get(f"{name}_low")), as_number(row.get(f"{name}_high"))
    return Estimate(value=value, low=low, high=high)


def interval_bar(
    label: str,
    note: str,
    estimate: Estimate,
    *,
    full_scale: float,
    chance: float | None = None,
    is_main: bool = False,
) -> IntervalBar:
    """`full_scale` is the share at the track's right end."""

    def percent(share: float | None) -> float | None:
        return None if share is None else round(min(max(share / full_scale, 0), 1) * 100, 2)

    has_interval = estimate.low is not None and estimate.high is not None
    return IntervalBar(
        label=label,
        note=note,
        text=f"{100 * estimate.value:.1f} %",
        interval_text=interval_text(estimate),
        width=percent(estimate.value) or 0.0,
        low=percent(estimate.low) if has_interval else None,
        high=percent(estimate.high) if has_interval else None,
        chance=percent(chance),
        is_main=is_main,
    )


def interval_text(estimate: Estimate) -> str:
    """`31.0 to 37.5`, empty without an interval."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}"


def nice_scale(largest: float) -> float:
    """The round share at or above the largest one: a track is never cut off."""
    for scale in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8):
        if largest <= scale:
            return scale
    return 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A grid line: where it lies in the SVG and what stands beside it."""

    position: float
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One series: its name, its SVG points and its last value."""

    name: str
    points: str
    last: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LineChart:
    """A small chart of one or more series over the same steps."""

    title: str
    x_name: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def line_charts(rows: Sequence[Mapping[str, Any]]) -> list[LineChart]:
    """One chart of the losses and one of the shares (accuracy, mAP, recall) that a run has logged."""
    groups = {"loss": ("loss",), "share right": ("top1", "accuracy", "map", "recall")}
    names = sorted({name for row in rows for name in row})
    x_name = next((name for name in ("step", "epoch") if name in names), "")
    charts = []
    for title, parts in groups.items():
        series = {}
        for name in names:
            if any(part in name for part in parts):
                points = _series(rows, x_name, name)
                if len(points) > 1:
                    series[name] = points
        if series:
            charts.append(_line_chart(title, x_name or "row", series))
    return charts


def _series(rows: Sequence[Mapping[str, Any]], x_name: str, name: str) -> list[tuple[float, float]]:
    points = []
    for number, row in enumerate(rows):
        x, y = as_number(row.get(x_name, number)), as_number(row.get(name))
        if x is not None and y is not None:
            points.append((x, y))
    return _thin(points)


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of neighbours, so that a long run stays a small page."""
    size = math.ceil(len(points) / _MAX_POINTS)
    if size <= 1:
        return points
    chunks = [points[start : start + size] for start in range(0, len(points), size)]
    return [(chunk[-1][0], sum(y for _, y in chunk) / len(chunk)) for chunk in chunks]


def _line_chart(
    title: str, x_name: str, series: Mapping[str, list[tuple[float, float]]]
) -> LineChart:
    xs = [x for points in series.values() for x, _ in points]
    ys = [y for points in series.values() for _, y in points]
    x_low, x_high = min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1
    y_values = tick_values(min(0.0, *ys), max(ys))
    y_low, y_high = y_values[0], y_values[-1]

    def place_x(x: float) -> float:
        return round(_LEFT + (x - x_low) / (x_high - x_low) * (CHART_WIDTH - _LEFT - _RIGHT), 1)

    def place_y(y: float) -> float:
        share = (y - y_low) / (y_high - y_low)
        return round(CHART_HEIGHT - _BOTTOM - share * (CHART_HEIGHT - _TOP - _BOTTOM), 1)

    lines = [
        Line(
            name=name.replace("_", " "),
            points=" ".join(f"{place_x(x)},{place_y(y)}" for x, y in points),
            last=f"{points[-1][1]:.3g}",
        )
        for name, points in series.items()
    ]
    x_values = [x for x in tick_values(x_low, x_high) if x_low <= x <= x_high]
    return LineChart(
        title=title,
        x_name=x_name,
        lines=tuple(lines),
        x_ticks=tuple(Tick(position=place_x(x), text=f"{x:g}") for x in x_values),
        y_ticks=tuple(Tick(position=place_y(y), text=f"{y:g}") for y in y_values),
    )


def tick_values(low: float, high: float) -> list[float]:
    """About five round values that reach from at or below `low` to at or above `high`."""
    span = high - low if high > low else max(abs(high), 1.0)
    raw = span / 4
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil((low + span) / step - 1e-9)
    return [float(f"{number * step:.10g}") for number in range(first, last + 1)]
