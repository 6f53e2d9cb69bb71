"""How near is archive indexing to the machine's limit? One part at a time, each with a JSON record.

`python -m benchmarks.index decode` and the other parts; `--scale 0.05` shows in a minute whether a part runs.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from benchmarks.harness import write_record
from benchmarks.index_decode import measure_decode
from benchmarks.index_flow import measure_flow
from benchmarks.index_growth import measure_growth, measure_write

Part = Literal["decode", "flow", "growth", "write"]


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexBenchmark:
    """Measure one part of indexing."""

    part: Annotated[Part, tyro.conf.Positional]
    """What to measure."""
    bundle_dir: Path | None = None
    """Encoder of the parts flow and growth."""
    num_rounds: int = 5
    """Interleaved rounds whose median counts, after one that warms up."""
    scale: float = 1.0
    """Size of the archives; records are made at 1."""
    record: bool = False
    """Write benchmarks/results/index_PART_*.json."""


_PARTS: dict[Part, Callable[[IndexBenchmark], dict[str, object]]] = {
    "decode": lambda config: measure_decode(num_rounds=config.num_rounds, scale=config.scale),
    "flow": lambda config: measure_flow(
        _bundle(config), num_rounds=config.num_rounds, scale=config.scale
    ),
    "growth": lambda config: measure_growth(_bundle(config), scale=config.scale),
    "write": lambda config: measure_write(scale=config.scale),
}


def _bundle(config: IndexBenchmark) -> Path:
    if config.bundle_dir is None:
        raise ValueError(f"part {config.part!r} needs --bundle-dir, an exported bundle")
    return config.bundle_dir


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures as JSON."""
    config = tyro.cli(
        IndexBenchmark, args=argv, prog="python -m benchmarks.index", description=__doc__
    )
    if config.record and config.scale != 1:
        raise ValueError(f"scale is {config.scale}; a record is made at 1")
    figures = _PARTS[config.part](config)
    sys.stdout.write(json.dumps(figures, indent=2, default=asdict) + "\n")
    if config.record:
        path = write_record(f"index_{config.part}", config=asdict(config), metrics=figures)
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
