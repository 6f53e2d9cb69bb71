"""How well it retrieves and whether it watches: evaluation and time evidence as the page shows them."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness.figures import as_number
from benchmarks.report.charts import (
    Estimate,
    IntervalBar,
    interval_bar,
    interval_text,
    nice_scale,
    read_estimate,
)
from training.evaluation.tables import verdict

HEADLINE = "map@50"

METRICS = tuple(f"map@{k}" for k in (5, 10, 25, 50)) + tuple(f"recall@{k}" for k in (1, 5, 10, 50))
# Row of the evaluation -> its name and what it is.
EVALUATION_ROWS = {
    "composed": ("Clip + sentence", "the whole model"),
    "mean": ("Mean of both", "two linear maps, averaged"),
    "video_only": ("Clip only", "trained with the sentence zeroed"),
    "text_only": ("Sentence only", "trained with the clip zeroed"),
    "raw": ("Raw clip vector", "nearest neighbours, no stage 2"),
}
TIME_ROWS = {
    "ordered": ("All frames, in order", "the encoder as it is"),
    "shuffled": ("All frames, shuffled", "the same encoder"),
    "single_frame": ("One frame", "trained and tested on single frames"),
    "mean_of_frames": ("Mean of frames", "no temporal part"),
}
# What a group of rows is about; the row's name follows the beginning given here.
TIME_GROUPS = {
    "count_given_family_somersaults": "Only the somersaults differ: which of its family is it?",
    "count_given_family_twists": "Only the twists differ: which of its family is it?",
    "": "Which dive is it?",
}
PARTS = {
    "by_change": "The composed query, by what the sentence changes",
    "by_pairs": "The composed query, by whether training saw the pair of dives",
}
PART_NAMES = {"seen": "Pair seen in training", "unseen": "Pair never seen"}


def evaluation_view(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Bars of the headline metric, the table of all, and where the composed query is good and bad."""
    order = list(EVALUATION_ROWS)
    rows = sorted(
        metrics.get("rows", []),
        key=lambda row: order.index(row["name"]) if row["name"] in order else len(order),
    )
    measured = [(row, estimate) for row in rows if (estimate := read_estimate(row, HEADLINE))]
    kinds = {kind: metrics.get(kind) or {} for kind in PARTS}
    part_rows = [row for parts in kinds.values() for part in parts.values() for row in part["rows"]]
    scale = nice_scale(max(map(_top, [*rows, *part_rows]), default=1.0))
    bars = [
        interval_bar(
            *_row_words(EVALUATION_ROWS, row["name"]),
            estimate,
            full_scale=scale,
            is_main=row["name"] == "composed",
        )
        for row, estimate in measured
    ]
    table = [
        {
            "label": _row_words(EVALUATION_ROWS, row["name"])[0],
            "is_main": row["name"] == "composed",
            "cells": [_cell(row, metric) for metric in METRICS],
        }
        for row in rows
    ]
    return {
        "bars": bars,
        "scale": f"{100 * scale:.0f} %",
        "metrics": [metric.replace("map", "mAP").replace("recall", "R") for metric in METRICS],
        "table": table,
        "verdict": _sentence(metrics),
        "parts": [
            {"title": PARTS[kind], "bars": bars}
            for kind, parts in kinds.items()
            if len(bars := _part_bars(parts, scale)) > 1
        ],
        "facts": list_facts(metrics, ("protocol", "split", "num_queries", "gallery_size")),
    }


def _sentence(metrics: Mapping[str, Any]) -> str:
    if not metrics.get("composed_over_best_other"):
        return ""
    text = verdict(dict(metrics))
    return f"{text[:1].upper()}{text[1:]}."


def _top(row: Mapping[str, Any]) -> float:
    """The right end of a row's bar or of its interval."""
    estimate = read_estimate(row, HEADLINE)
    return 0.0 if estimate is None else max(estimate.value, estimate.high or 0.0)


def _part_bars(parts: Mapping[str, Mapping[str, Any]], scale: float) -> list[IntervalBar]:
    """The composed query's bar for each kind of query, with the next best row beside it."""
    bars = []
    for name, part in parts.items():
        estimates = {row["name"]: read_estimate(row, HEADLINE) for row in part.get("rows", [])}
        composed = estimates.pop("composed", None)
        if composed is None:
            continue
        best = max((other.value for other in estimates.values() if other), default=None)
        note = f"{part.get('num_queries', '?')} queries"
        if best is not None:
            note += f", next best {100 * best:.1f} %"
        label = PART_NAMES.get(name, name.replace("_", " "))
        bars.append(interval_bar(label, note, composed, full_scale=scale))
    return bars


def _row_words(known: Mapping[str, tuple[str, str]], name: str) -> tuple[str, str]:
    return known.get(name, (name.replace("_", " "), ""))


def _cell(row: Mapping[str, Any], metric: str) -> dict[str, str]:
    estimate = read_estimate(row, metric)
    if estimate is None:
        return {"text": "-", "interval": ""}
    return {"text": f"{100 * estimate.value:.1f}", "interval": interval_text(estimate)}


def time_view(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Bars of what the encoder and its controls name correctly, one group for each question."""
    groups: dict[str, list[IntervalBar]] = {}
    for row in evidence.get("rows", []):
        top1 = as_number(row.get("top1"))
        if top1 is None:
            continue
        begin = next(begin for begin in TIME_GROUPS if str(row.get("name", "")).startswith(begin))
        name = str(row.get("name", "")).removeprefix(begin).removeprefix("_") or "ordered"
        low, high = as_number(row.get("low")), as_number(row.get("high"))
        archive = f" ({row['archive']} archive)" if row.get("archive") else ""
        bar = interval_bar(
            *_row_words(TIME_ROWS, name),
            Estimate(value=top1, low=low, high=high),
            full_scale=1.0,
            chance=as_number(row.get("chance")),
            is_main=name == "ordered",
        )
        groups.setdefault(TIME_GROUPS[begin] + archive, []).append(bar)
    return {
        "groups": [{"title": title, "bars": bars} for title, bars in groups.items()],
        "facts": list_facts(evidence, ("split", "num_clips", "num_classes", "seed")),
    }


def list_facts(source: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """`num_queries: 900` -> `900 queries`; anything else as `name: value`."""
    facts = []
    for name in names:
        value = source.get(name)
        if value is None or value == "":
            continue
        text = f"{value:,}" if isinstance(value, int) else str(value)
        if name.startswith("num_"):
            facts.append(f"{text} {name.removeprefix('num_').replace('_', ' ')}")
        else:
            facts.append(f"{name.replace('_', ' ')}: {text}")
    return facts
