"""How an evaluation is shown: the rows with their intervals, and one sentence on what they say."""

from typing import Any

from rich.table import Table

from training.evaluation.scores import HEADLINE, METRICS

ROW_TITLES = {
    "composed": "clip + edit text",
    "video_only": "clip, text zeroed",
    "text_only": "edit text, clip zeroed",
    "mean": "mean of projections",
    "raw": "raw clip vector",
}

_CHIEF_METRICS = ("map@10", HEADLINE, "recall@1", "recall@10")
_FULL_WIDTH = 108


def rows_table(part: dict[str, Any], *, title: str, width: int) -> Table:
    """Metrics in percent, the headline one with its interval; those that a terminal of this width holds."""
    metrics = METRICS if width >= _FULL_WIDTH else _CHIEF_METRICS
    table = Table(title=title)
    table.add_column("query", no_wrap=True)
    for metric in metrics:
        shown = metric.replace("map", "mAP").replace("recall", "R")
        table.add_column(shown, justify="right", no_wrap=True)
    for row in part["rows"]:
        cells = [ROW_TITLES.get(row["name"], row["name"])]
        for metric in metrics:
            text = f"{100 * row[metric]:.1f}"
            if metric == HEADLINE:
                text += f" [{100 * row[metric + '_low']:.1f}, {100 * row[metric + '_high']:.1f}]"
            cells.append(text)
        table.add_row(*cells)
    return table


def verdict(part: dict[str, Any]) -> str:
    """What the comparison says, in words that do not go beyond it."""
    ratio = part.get("composed_over_best_other")
    if not ratio or ratio["value"] is None:
        return "composed is not compared: it needs its own row and one other with an mAP above zero"
    disjoint = "are" if part["intervals_are_disjoint"] else "are NOT"
    best = ROW_TITLES.get(part["best_other"], part["best_other"])
    return (
        f"composed has {ratio['value']:.2f} times [{_bound(ratio['low'])}, {_bound(ratio['high'])}] the mAP@50 of "
        f"the best other row ({best}); their intervals {disjoint} disjoint"
    )


def _bound(value: float | None) -> str:
    return "?" if value is None else f"{value:.2f}"
