"""tfcovr demo: the whole flow on rendered video."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

EXAMPLES = """
  tfcovr demo                       # the real thing: at most 15 minutes on 2 cores
  tfcovr demo --tiny                # the same steps in 2 minutes; its numbers mean nothing
  tfcovr demo --encoder aim         # with a small AIM, the paper's encoder, pretrained first: an hour more
  tfcovr demo --run-dir /data/demo  # keep everything somewhere else
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Render an archive of dives, train on it, index it, ask it, and write a report. Rerun the same command to resume."""

    run_dir: Path | None = None
    """Where everything goes; runs/demo, with -tiny and -aim for these options, unless named."""
    tiny: bool = False
    """A few clips and steps only."""
    encoder: Literal["frame_temporal", "aim"] = "frame_temporal"
    """Video encoder that stage 1 trains."""
    record: bool = False
    """Also write the figures, with commit and machine, to benchmarks/results/."""

    def __post_init__(self) -> None:
        if self.record and self.tiny:
            raise ValueError("--record is for the full demo; the numbers of --tiny mean nothing")
        if self.record and self.encoder != "frame_temporal":
            raise ValueError(
                "--record is for the demo's own encoder; figures of AIM are those of `python -m benchmarks.studies.dives`"
            )


def run(config: Config) -> int:
    """Run the flow and say where the report is."""
    from benchmarks.demo.run import run_demo
    from benchmarks.demo.steps import FULL, TINY

    name = "demo" + ("-tiny" if config.tiny else "") + ("-aim" if config.encoder == "aim" else "")
    plan = replace(TINY if config.tiny else FULL, encoder=config.encoder)
    return run_demo(config.run_dir or Path("runs") / name, plan, record=config.record)
