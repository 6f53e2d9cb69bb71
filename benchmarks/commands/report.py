"""tfcovr report: report.html from a run, or the tables of the README pages from the records."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

EXAMPLES = """
  tfcovr report page runs/demo
  tfcovr report results
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class PageConfig:
    """Write report.html into a run folder."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    """Folder of a run of `tfcovr demo`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultsConfig:
    """Write the tables of README.md, docs/indexing.md and benchmarks/README.md from benchmarks/results/."""


Config = (
    Annotated[PageConfig, tyro.conf.subcommand("page")]
    | Annotated[ResultsConfig, tyro.conf.subcommand("results")]
)


def run(config: PageConfig | ResultsConfig) -> int:
    """Write, and print the paths."""
    from benchmarks.report.page import write_page, write_results

    made = write_page(config.run_dir) if isinstance(config, PageConfig) else write_results()
    sys.stdout.write("".join(f"{path}\n" for path in made))
    return 0
