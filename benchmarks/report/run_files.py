"""What report.html is made from: the files of a run folder, read as they are.

A missing file is an empty value and shows as not measured; a file that is not JSON is an error.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUILD_FILE = "build.json"
"""What `tfcovr build` says of itself: the videos, what was understood of the labels, and how to ask."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curves:
    """One training run's curves: the logged rows, and the picture that the training drew."""

    title: str
    rows: Sequence[Mapping[str, Any]]
    picture: Path | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportInput:
    """All that the page shows; paths inside `answers` are relative to `run_dir`."""

    run_dir: Path
    summary: Mapping[str, Any]
    steps: Sequence[Mapping[str, Any]]
    evaluation: Mapping[str, Any]
    time_evidence: Mapping[str, Any]
    index_summary: Mapping[str, Any]
    answers: Sequence[Mapping[str, Any]]
    answers_sheet: Path | None
    curves: Sequence[Curves]
    card: Mapping[str, Any]
    environment: Mapping[str, Any]
    build: Mapping[str, Any] = field(default_factory=dict)
    """Empty for a run of the demo."""

    @property
    def is_tiny(self) -> bool:
        return self.summary.get("preset") == "tiny"


def read_run(run_dir: Path, *, environment: Mapping[str, Any]) -> ReportInput:
    """Collect the files that `tfcovr demo` or `tfcovr build` leaves behind."""
    if not run_dir.is_dir():
        raise ValueError(
            f"run_dir is {run_dir}, which is not a folder; give one that a run has made"
        )
    sheet = run_dir / "answers.png"
    build = _read(run_dir / BUILD_FILE, {})
    model = run_dir / build.get("model", "")
    of_labels = model / "stage2" / "bundle" / "card.json"
    card = of_labels if of_labels.exists() else model / "encoder" / "card.json"
    return ReportInput(
        run_dir=run_dir,
        summary=_read(run_dir / "summary.json", {}),
        steps=_read(run_dir / "parts.json", []),
        evaluation=_read(model / "evaluate" / "metrics.json", {}),
        time_evidence=_read(run_dir / "time_evidence" / "time_evidence.json", {}),
        index_summary=_read(model / "index" / "index_summary.json", {}),
        answers=_read(run_dir / "answers.json", []),
        answers_sheet=sheet if sheet.exists() else None,
        curves=_read_curves(model),
        card=_read(card, {}),
        environment=environment,
        build=build,
    )


def _read_curves(run_dir: Path) -> list[Curves]:
    titles = {
        "stage1": "Stage 1: telling the labels apart",
        "stage2": "Stage 2: from clip and sentence to the clips that are meant",
    }
    curves = []
    for folder, title in titles.items():
        picture = run_dir / folder / "curves.png"
        rows = _read_lines(run_dir / folder / "metrics.jsonl")
        if rows or picture.exists():
            path = picture if picture.exists() else None
            curves.append(Curves(title=title, rows=rows, picture=path))
    return curves


def _read(path: Path, missing: Any) -> Any:
    if not path.exists():
        return missing
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error})") from error
    if not isinstance(content, type(missing)):
        raise ValueError(
            f"{path} holds a {type(content).__name__}; it must be a {type(missing).__name__}"
        )
    return content


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSONL file; the last one may be truncated by an interruption."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return [row for row in rows if isinstance(row, dict)]
