"""tfcovr demo: the whole flow on rendered video."""

from dataclasses import dataclass
from pathlib import Path

EXAMPLES = """
  tfcovr demo                       # the real thing: at most 15 minutes on 2 cores
  tfcovr demo --tiny                # the same steps in 2 minutes; its numbers mean nothing
  tfcovr demo --run-dir /data/demo  # keep everything somewhere else
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Render an archive of dives, train on it, index it, ask it, and write a report. Rerun the same command to resume."""

    run_dir: Path | None = None
    """Where everything goes; runs/demo, or runs/demo-tiny with --tiny, unless named."""
    tiny: bool = False
    """A few clips and steps only."""
    record: bool = False
    """Also write the figures, with commit and machine, to benchmarks/results/."""

    def __post_init__(self) -> None:
        if self.record and self.tiny:
            raise ValueError("--record is for the full demo; the numbers of --tiny mean nothing")


def run(config: Config) -> int:
    """Run the flow and say where the report is."""
    from benchmarks.demo.run import run_demo
    from benchmarks.demo.steps import FULL, TINY

    run_dir = config.run_dir or Path("runs") / ("demo-tiny" if config.tiny else "demo")
    return run_demo(run_dir, TINY if config.tiny else FULL, record=config.record)
