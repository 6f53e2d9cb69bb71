"""Table of mAP@50 as published (arXiv 2506.05274) beside our measurements.

`python -m training.evaluation.paper_table [metrics.json ...]` prints it; rows without a file are "not measured".
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from cluster.tables import text_table, wide_console
from encoders.files import read_json

NOT_MEASURED = "not measured"


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedRow:
    """A published mAP@50 on TF-CoVR's test split, in percent."""

    setting: Literal["zero-shot", "fine-tuned"]
    method: str
    map50: float


@dataclass(frozen=True, kw_only=True, slots=True)
class OurRow:
    """mAP@50 of one of our rows by both protocols, in percent."""

    setting: Literal["zero-shot", "fine-tuned"]
    method: str
    unique: float
    release: float


PUBLISHED = (
    PublishedRow(setting="zero-shot", method="LanguageBind", map50=5.92),
    PublishedRow(setting="zero-shot", method="TF-CoVR-Base", map50=7.51),
    PublishedRow(setting="fine-tuned", method="best before TF-CoVR-Base", map50=19.83),
    PublishedRow(setting="fine-tuned", method="TF-CoVR-Base, v1", map50=25.82),
    PublishedRow(setting="fine-tuned", method="TF-CoVR-Base, v2", map50=27.22),
)
# TF-CoVR has 180K triplets. Data of another size is not TF-CoVR, and stands in rows of its own.
_TFCOVR_TRIPLETS = range(170_000, 190_001)
# Row of an evaluation -> its name in the paper; v2 is the newest figure of the same recipe.
_OUR_NAMES: dict[str, tuple[Literal["zero-shot", "fine-tuned"], str]] = {
    "composed": ("fine-tuned", "TF-CoVR-Base, v2"),
    "raw": ("zero-shot", "AIM after stage 1, clip alone"),
}


def our_rows(metrics: dict[str, Any]) -> list[OurRow]:
    """The rows of an evaluation's metrics.json; those of a zero-shot model carry its name."""
    model = metrics.get("model")
    release = {row["name"]: row["map@50"] for row in metrics["release"]["rows"]}
    rows = []
    for row in metrics["rows"]:
        name = row["name"]
        if model is None and name not in _OUR_NAMES:
            continue
        setting, method = _OUR_NAMES[name] if model is None else ("zero-shot", f"{model}, {name}")
        if model is None and not _is_tfcovr(metrics):
            method = f"{method.split(',')[0]}, on other data"
        rows.append(
            OurRow(
                setting=setting,
                method=method,
                unique=100 * row["map@50"],
                release=release[name],
            )
        )
    return rows


def _is_tfcovr(metrics: dict[str, Any]) -> bool:
    counts = metrics.get("summary", {}).get("num_triplets", {})
    return sum(counts.values()) in _TFCOVR_TRIPLETS


def paper_table(ours: Sequence[OurRow], *, data: str) -> Table:
    """`data` describes our evaluation data: only TF-CoVR's own test split makes the columns comparable."""
    rows = []
    ours_by_name = {(row.setting, row.method): row for row in ours}
    for setting in ("zero-shot", "fine-tuned"):
        published = [row for row in PUBLISHED if row.setting == setting]
        for row in published:
            our_row = ours_by_name.pop((setting, row.method), None)
            rows.append((setting, row.method, f"{row.map50:.2f}", *_cells(our_row)))
        for row in [row for row in ours_by_name.values() if row.setting == setting]:
            rows.append((setting, row.method, "", *_cells(row)))
    numbers = ("published", "ours, unique", "ours, tfcovr-release")
    title = f"mAP@50 in percent; published: TF-CoVR's test split; ours: {data}"
    return text_table(
        ("setting", "method", *numbers), rows, title=title, right=numbers, whole=numbers
    )


def _cells(row: OurRow | None) -> tuple[str, str]:
    if row is None:
        return NOT_MEASURED, NOT_MEASURED
    return f"{row.unique:.2f}", f"{row.release:.2f}"


def describe_data(metrics: dict[str, Any]) -> str:
    """Short description of the evaluation data."""
    size = f"{metrics['num_queries']} queries, {metrics['gallery_size']} clips"
    return f"{metrics.get('data', 'this data')}, {metrics['split']} ({size})"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluation.paper_table",
        description=__doc__,
        epilog="example: python -m training.evaluation.paper_table runs/paper/metrics.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "metrics",
        type=Path,
        nargs="*",
        help="metrics.json of `tfcovr evaluate`; none = the paper's rows alone",
    )
    paths = parser.parse_args(argv).metrics
    records = [read_json(path) for path in paths]
    data = "; ".join(sorted({describe_data(record) for record in records})) or NOT_MEASURED
    rows = [row for record in records for row in our_rows(record)]
    wide_console().print(paper_table(rows, data=data))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
