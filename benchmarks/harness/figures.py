"""Figures of a record as numbers, and figures derived from others."""

import math
from collections.abc import Mapping
from typing import Any


def as_number(value: object) -> float | None:
    """Finite numbers only; a boolean is not a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


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
