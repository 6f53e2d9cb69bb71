"""A finished run as one page (report.html), and the result tables of benchmarks/README.md.

The page is one file: style and pictures inside, no script, nothing from the network.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from benchmarks.harness.record import capture_environment, require_checkout
from benchmarks.report.charts import CHART_HEIGHT, CHART_WIDTH
from benchmarks.report.readme_demo import update_readme
from benchmarks.report.readme_index import update_index
from benchmarks.report.run_files import ReportInput, read_run
from benchmarks.report.tables import update_registry, update_tables
from benchmarks.report.view import build_view
from cluster.storage import write_atomic

_FOLDER = Path(__file__).resolve().parent
_OF_A_RUN = ("parts.json", "summary.json")


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


def write_page(run_dir: Path) -> list[Path]:
    """report.html of a run folder; ValueError where no demo has run."""
    if run_dir.is_dir() and not any((run_dir / name).exists() for name in _OF_A_RUN):
        raise ValueError(f"{run_dir} holds none of {', '.join(_OF_A_RUN)}: no demo has run there")
    return [write_report(run_dir)]


def write_results() -> list[Path]:
    """The tables of README.md, docs/indexing.md and benchmarks/README.md from the records."""
    require_checkout("report results: it rewrites README.md and docs/, which")
    update_registry()
    return [update_tables(), update_readme(), *update_index()]
