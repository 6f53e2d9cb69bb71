"""The command `tfcovr triplets`: clips.parquet -> triplets.parquet and a summary of what was made."""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cluster.storage import write_atomic
from encoders.clips import read_clips
from training.annotations.triplets import (
    TripletConfig,
    TripletReport,
    build_triplets_with_report,
    write_triplets,
)

_EXAMPLES = """Make composed queries from labelled clips.

Every ordered pair of labels that differ in one or two attributes becomes an edit ("with 2.5 twists");
the answers to a query are the clips of the new label in other videos of the same split.

examples:
  tfcovr triplets --clips runs/demo/archive/clips.parquet --out runs/demo/triplets.parquet
  tfcovr triplets --clips clips.parquet --out triplets.parquet --num-triplets 180000 --held-out-share 0.2
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class MakeTripletsConfig:
    """Options of `tfcovr triplets`."""

    clips: Path
    """clips.parquet with labels and attributes."""
    out: Path
    """The triplets.parquet to write; a summary goes beside it as <name>.json."""
    triplets: TripletConfig = field(default_factory=TripletConfig)


def run(argv: Sequence[str] | None = None) -> int:
    """Parse, build, write, and show the summary."""
    import tyro

    config = tyro.cli(
        MakeTripletsConfig,
        args=argv,
        description=_EXAMPLES,
        prog="tfcovr triplets",
        config=(tyro.conf.OmitArgPrefixes,),
    )
    started = time.monotonic()
    triplets, report = build_triplets_with_report(read_clips(config.clips), config.triplets)
    if not triplets:
        raise ValueError(
            f"{config.clips}: no triplet can be made: {report.num_pairs} label pairs differ in at most "
            f"{config.triplets.max_changes} attributes, {report.num_edits_without_target} edits have no target"
        )
    write_triplets(config.out, triplets)
    record = {"config": asdict(config), "report": asdict(report)}
    write_atomic(config.out.with_suffix(".json"), json.dumps(record, indent=1, default=os.fspath))
    console = Console(file=sys.stdout)
    console.print(_summary(report))
    console.print(
        f"wrote {report.num_triplets} triplets to {config.out} in {time.monotonic() - started:.1f} s",
        highlight=False,
    )
    return 0


def _summary(report: TripletReport) -> Table:
    table = Table(title="triplets", show_header=False)
    by_split = ", ".join(f"{split or 'all'} {num}" for split, num in report.num_by_split.items())
    rows = [
        ("triplets", f"{report.num_triplets} of {report.num_possible} possible ({by_split})"),
        ("targets per query", f"{report.mean_targets_per_query:.1f} on average, "
         f"{report.min_targets_per_query} to {report.max_targets_per_query}"),
        ("ordered label pairs", str(report.num_pairs)),
        *((f"  differ in {name}", str(num)) for name, num in report.pairs_by_attribute.items()),
        ("pairs held out of training", str(len(report.held_out_pairs))),
        ("edits without target", str(report.num_edits_without_target)),
    ]  # fmt: skip
    if report.labels_with_equal_attributes:
        twins = "; ".join(", ".join(labels) for labels in report.labels_with_equal_attributes)
        rows.append(("labels no edit tells apart", twins))
    if report.num_clips_without_label:
        rows.append(("clips without label, left out", str(report.num_clips_without_label)))
    for name, value in rows:
        table.add_row(name, value)
    return table
