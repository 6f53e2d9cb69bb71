"""What the page says: the files of a run turned into the words, numbers and pictures of its sections.

The template only lays out; every number is formatted here and every picture is inlined here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness.figures import as_number, derived_figures
from benchmarks.harness.thresholds import (
    Unit,
    Verdict,
    format_duration,
    format_figure,
    judge,
    read_bars,
)
from benchmarks.report.answers import answer_view, inline_picture
from benchmarks.report.charts import line_charts
from benchmarks.report.quality import evaluation_view, list_facts, time_view
from benchmarks.report.run_files import ReportInput

_MAX_DEAD_LETTERS = 20


def build_view(run: ReportInput) -> dict[str, Any]:
    """Everything that the template needs, section by section."""
    verdicts = [] if run.build else judge(
        read_bars(), benchmark="demo", hardware="", metrics=derived_figures(run.summary)
    )  # fmt: skip
    return {
        "is_tiny": run.is_tiny,
        "build": _build(run),
        "headline": _headline(run),
        "figures": [_figure(verdict, is_judged=not run.is_tiny) for verdict in verdicts],
        "num_passed": sum(verdict.state == "pass" for verdict in verdicts),
        "answers": [answer_view(answer, run.run_dir) for answer in run.answers],
        "answers_sheet": inline_picture(run.answers_sheet),
        "evaluation": evaluation_view(run.evaluation),
        "time_evidence": time_view(run.time_evidence),
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


def _headline(run: ReportInput) -> list[dict[str, str]]:
    """The few figures that say what happened, before any verdict."""
    figures = derived_figures(run.summary) if run.summary else _build_figures(run)
    wanted: tuple[tuple[str, Unit, str], ...] = (
        ("clips_indexed", "count", "clips in the index"),
        ("num_classes", "count", "labels" if run.build else "kinds of dives"),
        ("map50_composed", "percent", "mAP@50, composed"),
        ("seconds_total", "s", "from nothing to here"),
    )
    return [
        {"text": format_figure(value, unit), "label": label}
        for name, unit, label in wanted
        if (value := figures.get(name)) is not None
    ]


def _build(run: ReportInput) -> dict[str, Any]:
    """Title, what was understood and how to ask; empty for a run of the demo."""
    if not run.build:
        return {}
    return {
        "title": run.run_dir.resolve().name,
        "videos": str(run.build.get("videos", "")),
        "has_labels": bool(run.evaluation),
        "notes": [str(line) for line in run.build.get("notes", [])],
        "next_steps": [str(line) for line in run.build.get("next_steps", [])],
    }


def _build_figures(run: ReportInput) -> dict[str, float]:
    """As a summary of the demo has them."""
    index, labels = run.index_summary, run.card.get("labels") or []
    composed = [row for row in run.evaluation.get("rows", []) if row["name"] == "composed"]
    figures: dict[str, float] = {
        "clips_indexed": index.get("written", 0) + index.get("skipped", 0),
        "seconds_total": sum(as_number(step.get("seconds")) or 0.0 for step in run.steps),
    }
    figures |= {"num_classes": len(labels)} if labels else {}
    return figures | ({"map50_composed": composed[0]["map@50"]} if composed else {})


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
    stages = [
        {
            "name": str(stage["name"]),
            "text": format_duration(busy_s),
            "note": f"{stage.get('num_workers', '?')} workers",
            "width": round(100 * min(utilisation, 1), 1),
            "utilisation": f"{100 * utilisation:.0f} % busy",
        }
        for stage in summary.get("stages", [])
        if (busy_s := as_number(stage.get("busy_s"))) is not None
        and (utilisation := as_number(stage.get("utilisation"))) is not None
    ]
    fallbacks = summary.get("decode_fallbacks") or {}
    return {
        "counts": counts,
        "bottleneck": str(summary.get("bottleneck") or ""),
        "facts": [
            *_backends("embedded by", summary.get("embed_backends")),
            *_backends("decoded by", summary.get("decode_backends")),
            *(f"another decoder for {count} clips: {why}" for why, count in fallbacks.items()),
            *list_facts(summary, ("collection", "milvus_uri")),
        ],
        "stages": stages,
        "dead_letters": list(summary.get("dead_letters", []))[:_MAX_DEAD_LETTERS],
    }


def _backends(verb: str, counts: Mapping[str, int] | None) -> list[str]:
    names = ", ".join(f"{name} ({count:,})" for name, count in (counts or {}).items())
    return [f"{verb} {names}"] if names else []


def _steps(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    longest = max((as_number(step.get("seconds")) or 0.0 for step in steps), default=0.0) or 1.0
    return [
        {
            "name": step.get("title") or str(step.get("name", "")).replace("_", " "),
            "made": step.get("detail", ""),
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
