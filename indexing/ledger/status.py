"""tfcovr status: how far the indexing run of a run folder is, while it goes on, or how it ended."""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexing.ledger.progress import Progress

EXAMPLES = """
  tfcovr status --run-dir runs/demo/index
  tfcovr status --run-dir /mnt/SHARED/runs/index --json
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Progress of an indexing run: clips, rate, time left, dead letters, bottleneck. It may go on in another process or machine.

    Status 1 where it was interrupted, 0 while it goes on and when it has finished.
    """

    run_dir: Path
    """Run folder of the indexing."""
    json: bool = False
    """Print everything as JSON."""


def run(config: Config) -> int:
    """Print where the run stands."""
    from cluster.processes import find_driver
    from indexing.ledger.dead_letters import iter_dead_letters
    from indexing.ledger.progress import read_progress

    driver = find_driver(config.run_dir)
    progress = read_progress(
        config.run_dir
    )  # after the look: a run that ended meanwhile has finished
    state = "running" if driver else "finished" if progress.phase == "finished" else "interrupted"
    letters = Counter(letter.error.reason for letter in iter_dead_letters(config.run_dir))
    if config.json:
        values = {"state": state, **asdict(progress), "dead_letters": letters}
        sys.stdout.write(json.dumps(values) + "\n")
    else:
        where = f", process {driver.pid} on {driver.host}" if driver else ""
        sys.stdout.write("\n".join([f"{state}{where}", *_lines(progress, letters)]) + "\n")
    return 1 if state == "interrupted" else 0


def _lines(progress: "Progress", letters: Mapping[str, int]) -> Iterator[str]:
    ago_s = max(time.time() - progress.updated_s, 0.0)
    since = f"{_span(progress.updated_s - progress.started_s)} after the start, {_span(ago_s)} ago"
    share = f" ({progress.done / progress.total:.0%})" if progress.total else ""
    yield f"{progress.phase}: {progress.done} of {progress.total} clips{share}, {since}"
    if progress.phase == "indexing":
        left = "" if progress.remaining_s is None else f", {_span(progress.remaining_s)} left"
        yield f"{progress.clips_per_s:.1f} clips/s{left}"
    if progress.phase != "finished" and progress.dead:
        yield f"dead in this run: {_counts(progress.dead)}"
    if letters:
        yield f"dead letters when a run last finished: {_counts(letters)}"
    if progress.bottleneck:
        loads = ", ".join(
            f"{name} {load.workers} x {load.busy:.0%} busy"
            for name, load in progress.stages.items()
        )
        yield f"bottleneck: {progress.bottleneck} ({loads})"
    cost = "" if progress.cost is None else f", cost so far {progress.cost:.2f}"
    yield f"nodes: {progress.nodes}, {progress.node_hours:.2f} node-hours{cost}"


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} x {name}" for name, count in ordered)


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
