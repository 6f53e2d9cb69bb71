"""What the page says: the files of a run turned into the words, numbers and pictures of its sections.

The template only lays out; every number is formatted here and every picture is inlined here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report_answers import answer_view, inline_picture
from benchmarks.report_charts import (
    Estimate,
    as_number,
    interval_bar,
    interval_text,
    line_charts,
    nice_scale,
    read_estimate,
)
from benchmarks.report_input import ReportInput
from benchmarks.thresholds import Unit, Verdict, format_duration, format_figure, judge, read_bars

_MAX_DEAD_LETTERS = 20
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
    "count_given_family_somersaults": ("Somersaults, family known", "the count alone"),
    "count_given_family_twists": ("Twists, family known", "the count alone"),
}


def build_view(run: ReportInput) -> dict[str, Any]:
    """Everything that the template needs, section by section."""
    verdicts = judge(
        read_bars(), benchmark="demo", hardware="", metrics=derived_figures(run.summary)
    )
    return {
        "is_tiny": run.is_tiny,
        "headline": _headline(run),
        "figures": [_figure(verdict, is_judged=not run.is_tiny) for verdict in verdicts],
        "num_passed": sum(verdict.state == "pass" for verdict in verdicts),
        "answers": [answer_view(answer, run.run_dir) for answer in run.answers],
        "answers_sheet": inline_picture(run.answers_sheet),
        "evaluation": _evaluation(run.evaluation),
        "time_evidence": _time_evidence(run.time_evidence),
        "curves": [
            {
                "title": curves.title,
                "charts": line_charts(curves.rows),
                "picture": inline_picture(curves.picture),
            }
            for curves in run.curves
        ],
        "index": _index(run.index_summary),
        "steps": _steps(run.steps),
        "environment": _environment(run),
    }


def derived_figures(summary: Mapping[str, Any]) -> dict[str, float | None]:
    """The summary's figures and what follows from them; what cannot be computed is None."""
    figures = {name: as_number(value) for name, value in summary.items()}

    def difference(first: str, second: str) -> float | None:
        a, b = figures.get(first), figures.get(second)
        return None if a is None or b is None else a - b

    others = [figures.get(f"map50_{row}") for row in ("video_only", "text_only", "mean", "raw")]
    composed = figures.get("map50_composed")
    known = [other for other in others if other is not None]
    best = max(known) if len(known) == len(others) else None
    return {
        **figures,
        "top1_over_single_frame": difference("top1", "top1_single_frame"),
        "top1_lost_by_shuffling": difference("top1", "top1_shuffled"),
        "map50_composed_over_best_other": composed / best
        if composed is not None and best
        else None,
        "map50_interval_gap": difference("map50_composed_low", "map50_best_other_high"),
    }


def _headline(run: ReportInput) -> list[dict[str, str]]:
    """The few figures that say what happened, before any verdict."""
    figures = derived_figures(run.summary)
    wanted: tuple[tuple[str, Unit, str], ...] = (
        ("clips_indexed", "count", "clips in the index"),
        ("num_classes", "count", "kinds of dives"),
        ("map50_composed", "percent", "mAP@50, composed"),
        ("seconds_total", "s", "from nothing to here"),
    )
    return [
        {"text": format_figure(value, unit), "label": label}
        for name, unit, label in wanted
        if (value := figures.get(name)) is not None
    ]


def _figure(verdict: Verdict, *, is_judged: bool) -> dict[str, str]:
    bar = verdict.bar
    text = "not measured" if verdict.value is None else format_figure(verdict.value, bar.unit)
    state = verdict.state if is_judged else "not judged"
    return {
        "title": bar.title,
        "text": text,
        "rule": bar.rule(),
        "state": state,
        "css": state.replace(" ", "-"),
        "meaning": bar.meaning,
    }


def _evaluation(metrics: Mapping[str, Any]) -> dict[str, Any]:
    order = list(EVALUATION_ROWS)
    rows = sorted(
        metrics.get("rows", []),
        key=lambda row: order.index(row["name"]) if row["name"] in order else len(order),
    )
    measured = [(row, estimate) for row in rows if (estimate := read_estimate(row, "map@50"))]
    scale = nice_scale(max((e.high or e.value for _, e in measured), default=1.0))
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
        "facts": _facts(metrics, ("protocol", "split", "num_queries", "gallery_size")),
    }


def _row_words(known: Mapping[str, tuple[str, str]], name: str) -> tuple[str, str]:
    return known.get(name, (name.replace("_", " "), ""))


def _cell(row: Mapping[str, Any], metric: str) -> dict[str, str]:
    estimate = read_estimate(row, metric)
    if estimate is None:
        return {"text": "-", "interval": ""}
    return {"text": f"{100 * estimate.value:.1f}", "interval": interval_text(estimate)}


def _time_evidence(evidence: Mapping[str, Any]) -> dict[str, Any]:
    groups: dict[str, list[Any]] = {}
    for row in evidence.get("rows", []):
        low, high = as_number(row.get("low")), as_number(row.get("high"))
        top1 = as_number(row.get("top1"))
        if top1 is None:
            continue
        name = str(row.get("name", ""))
        bar = interval_bar(
            *_row_words(TIME_ROWS, name),
            Estimate(value=top1, low=low, high=high),
            full_scale=1.0,
            chance=as_number(row.get("chance")),
            is_main=name == "ordered",
        )
        groups.setdefault(str(row.get("archive") or ""), []).append(bar)
    return {
        "groups": [{"archive": archive, "bars": bars} for archive, bars in groups.items()],
        "facts": _facts(evidence, ("split", "num_clips", "num_classes")),
    }


def _facts(source: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """`num_queries: 900` -> `900 queries`; text as it is, with its name."""
    facts = []
    for name in names:
        value = source.get(name)
        if isinstance(value, int):
            facts.append(f"{value:,} {name.removeprefix('num_').replace('_', ' ')}")
        elif value:
            facts.append(f"{name.replace('_', ' ')}: {value}")
    return facts


def _index(summary: Mapping[str, Any]) -> dict[str, Any]:
    counts = [
        {"label": label, "text": f"{summary[name]:,}"}
        for name, label in (
            ("clips_in", "clips given"),
            ("written", "written"),
            ("dead", "dead letters"),
            ("skipped", "skipped, in already"),
        )
        if isinstance(summary.get(name), int)
    ]
    rate = as_number(summary.get("clips_per_s"))
    if rate is not None:
        counts.append({"label": "clips per second", "text": f"{rate:.1f}"})
    stages = {
        str(stage["name"]): busy_s
        for stage in summary.get("stages", [])
        if (busy_s := as_number(stage.get("busy_s"))) is not None
    }
    total_s = sum(stages.values()) or 1.0
    return {
        "counts": counts,
        "bottleneck": str(summary.get("bottleneck") or ""),
        "backends": _facts(summary, ("decode_backend_used", "backend_used", "fallback_reason")),
        "stages": [
            {
                "name": name,
                "text": format_duration(busy_s),
                "width": round(100 * busy_s / total_s, 1),
            }
            for name, busy_s in stages.items()
        ],
        "dead_letters": list(summary.get("dead_letters", []))[:_MAX_DEAD_LETTERS],
    }


def _steps(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    longest = max((as_number(step.get("seconds")) or 0.0 for step in steps), default=0.0) or 1.0
    return [
        {
            "name": step.get("title") or str(step.get("name", "")).replace("_", " "),
            "made": step.get("made", ""),
            "text": format_duration(seconds),
            "width": round(100 * seconds / longest, 1),
        }
        for step in steps
        if (seconds := as_number(step.get("seconds"))) is not None
    ]


def _environment(run: ReportInput) -> list[tuple[str, str]]:
    environment = run.environment
    packages: Mapping[str, str] = environment.get("packages", {})
    gpus = ", ".join(gpu["name"] for gpu in environment.get("gpus", []))
    commit = str(environment.get("git_commit", "unknown"))[:12]
    rows = [
        ("commit", commit + (" with changes" if environment.get("git_is_dirty") else "")),
        ("processor", f"{environment.get('cpu', '?')}, {environment.get('num_cores', '?')} cores"),
        ("memory", f"{environment.get('memory_gib', '?')} GiB"),
        ("GPU", gpus or "none"),
        ("Python", str(environment.get("python", "?"))),
        ("system", str(environment.get("system", "?"))),
        ("packages", ", ".join(f"{name} {version}" for name, version in packages.items())),
        ("encoder id", str(run.card.get("encoder_id", ""))),
        ("bundle id", str(run.card.get("bundle_id", ""))),
    ]
    return [(name, text) for name, text in rows if text]
