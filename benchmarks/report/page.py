"""A finished run as one page (report.html), and the result tables of benchmarks/README.md.

The page is one file: style and pictures inside, no script, nothing from the network.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmarks.harness.record import capture_environment
from benchmarks.report.charts import CHART_HEIGHT, CHART_WIDTH
from benchmarks.report.readme_demo import update_readme
from benchmarks.report.readme_index import update_index
from benchmarks.report.run_files import ReportInput, read_run
from benchmarks.report.tables import update_tables
from benchmarks.report.view import build_view
from cluster.storage import write_atomic

_FOLDER = Path(__file__).resolve().parent
_OF_A_RUN = ("steps.json", "summary.json")


def write_report(run_dir: Path, *, environment: Mapping[str, Any] | None = None) -> Path:
    """Write `report.html` into the run folder; `environment` is this machine's unless given."""
    environment = capture_environment() if environment is None else environment
    path = run_dir / "report.html"
    write_atomic(path, render_report(read_run(run_dir, environment=environment)))
    return path


def render_report(run: ReportInput) -> str:
    """The page as text; every value from a file is escaped."""
    loader = FileSystemLoader(_FOLDER)
    template = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True
    ).get_template("page.html.jinja")
    view = build_view(run)
    return template.render(
        **view,
        has_strips=any(
            answer["strip"] or any(hit["strip"] for hit in answer["hits"])
            for answer in view["answers"]
        ),
        style=Markup((_FOLDER / "page.css").read_text()),
        width=CHART_WIDTH,
        height=CHART_HEIGHT,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """`report page RUN_DIR` or `report results`."""
    parser = argparse.ArgumentParser(
        description="Make report.html from a run, or the tables of benchmarks/README.md.",
        epilog="examples: tfcovr report page runs/demo | tfcovr report results",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    page = commands.add_parser("page", help="write report.html into a run folder")
    page.add_argument("run_dir", type=Path)
    commands.add_parser(
        "results", help="write the tables of README.md, docs/indexing.md and benchmarks/README.md"
    )
    options = parser.parse_args(argv)
    if options.command == "page":
        folder: Path = options.run_dir
        if folder.is_dir() and not any((folder / name).exists() for name in _OF_A_RUN):
            raise ValueError(
                f"{folder} holds none of {', '.join(_OF_A_RUN)}: no demo has run there"
            )
        made = [write_report(folder)]
    else:
        made = [update_tables(), update_readme(), *update_index()]
    sys.stdout.write("".join(f"{path}\n" for path in made))


if __name__ == "__main__":
    main()
