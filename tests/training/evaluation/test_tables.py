import io

import pytest
from rich.console import Console

from training.evaluation.scores import METRICS
from training.evaluation.tables import ROW_TITLES, rows_table, verdict


def part_of(names):
    values = {metric: 0.123 + place / 100 for place, metric in enumerate(METRICS)}
    bounds = {f"{metric}_{side}": 1.0 for metric in METRICS for side in ("low", "high")}
    return {"rows": [{"name": name, **values, **bounds} for name in names]}


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_its_terminal_and_cuts_no_name_or_figure(width):
    out = io.StringIO()
    console = Console(file=out, width=width)
    console.print(rows_table(part_of(ROW_TITLES), title="t", width=width))
    shown = out.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    assert all(title in shown for title in ROW_TITLES.values())
    assert "15.3 [100.0, 100.0]" in shown  # map@50 is the fourth
    assert ("12.3" in shown) == (width == 120)  # map@5 only where there is room


def test_the_verdict_says_no_more_than_the_intervals():
    part = {
        "best_other": "text_only",
        "composed_over_best_other": {"value": 1.5, "low": 1.2, "high": None},
        "intervals_are_disjoint": False,
    }
    said = verdict(part)
    assert "1.50 times [1.20, ?]" in said
    assert "NOT disjoint" in said
    assert "are disjoint" in verdict(part | {"intervals_are_disjoint": True})
    assert "not compared" in verdict({"rows": []})
    nothing = part | {"composed_over_best_other": {"value": None, "low": None, "high": None}}
    assert "not compared" in verdict(nothing)
