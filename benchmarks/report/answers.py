"""How asked queries become film strips on the page: pictures inlined, right and wrong marked."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness.figures import as_number
from training.annotations.labels.dive_numbers import parse_dive_number

_MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


def answer_view(answer: Mapping[str, Any], run_dir: Path) -> dict[str, Any]:
    """One query with its hits in order; strips come as data URIs."""
    hits = [
        {
            "place": place,
            "label": hit.get("label") or "unlabelled",
            "clip_id": hit.get("clip_id", ""),
            "score": _score(hit.get("score")),
            "about": _about(hit),
            "is_right": hit.get("is_right"),
            "strip": _strip(hit.get("strip"), run_dir),
        }
        for place, hit in enumerate(answer.get("hits", []), start=1)
    ]
    num_right = sum(hit["is_right"] is True for hit in hits)
    return {
        "query_clip_id": answer.get("query_clip_id", ""),
        "query_label": answer.get("query_label") or "",
        "edit_text": answer.get("edit_text", ""),
        "query_about": describe_dive(str(answer.get("query_label") or "")),
        "target_label": answer.get("target_label") or "",
        "target_about": describe_dive(str(answer.get("target_label") or "")),
        "strip": _strip(answer.get("query_strip"), run_dir),
        "hits": hits,
        "verdict": f"{num_right} of {len(hits)} right",
    }


def _score(value: object) -> str:
    number = as_number(value)
    return "" if number is None else f"{number:.3f}"


def _about(hit: Mapping[str, Any]) -> str:
    """What the label means, and where the clip lies: `back, 2.5 somersaults, pike; test-0012, 0.0 to 2.4 s`."""
    parts = [describe_dive(str(hit.get("label") or "")), str(hit.get("clip_id", ""))]
    start, end = as_number(hit.get("start_s")), as_number(hit.get("end_s"))
    if start is not None and end is not None:
        parts[-1] += f", {start:.1f} to {end:.1f} s"
    return "; ".join(filter(None, parts))


def describe_dive(label: str) -> str:
    """A dive number in words; empty for a label that is none."""
    try:
        dive = parse_dive_number(label)
    except ValueError:
        return ""
    counts = [
        f"{half_turns / 2:g} {name}{'' if half_turns == 2 else 's'}"
        for name, half_turns in (("somersault", dive.half_somersaults), ("twist", dive.half_twists))
        if half_turns
    ]
    return ", ".join(["armstand"] * dive.armstand + [dive.take_off, *counts, dive.position])


def _strip(path: object, run_dir: Path) -> str:
    """A strip lies below the run folder; a path that leads elsewhere is refused."""
    if not isinstance(path, str) or not path:
        return ""
    full = (run_dir / path).resolve()
    if not full.is_relative_to(run_dir.resolve()):
        raise ValueError(f"answers.json names the strip {path!r}, which is not below {run_dir}")
    return inline_picture(full)


def inline_picture(path: Path | None) -> str:
    """The picture as a data URI, so that the page is one file; empty where there is none."""
    if path is None or not path.exists() or path.suffix.lower() not in _MEDIA_TYPES:
        return ""
    encoded = base64.b64encode(path.read_bytes()).decode()
    return f"data:{_MEDIA_TYPES[path.suffix.lower()]};base64,{encoded}"
