"""The whole flow on rendered video: `tfcovr demo` renders, trains, exports, indexes, evaluates, asks.

Every step is a command that a user could type; the demo puts them in a row, remembers what is done,
and measures the time and the memory of each.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.demo.steps import TINY, DemoPlan, plan_steps
from benchmarks.demo.summary import summarize
from benchmarks.harness.figures import derived_figures
from benchmarks.harness.parts import PartFailedError, PartRecord, PartRunner
from benchmarks.harness.record import write_record
from benchmarks.harness.steps import command_parts
from benchmarks.harness.thresholds import format_duration
from benchmarks.report.page import write_report
from cluster.processes import reap_orphans
from cluster.storage import write_atomic


def run_demo(run_dir: Path, plan: DemoPlan, *, record: bool = False) -> int:
    """Run the flow and say where the report is."""
    console = Console()
    try:
        with shared_ray(run_dir) as ray_variables:
            steps = plan_steps(plan, run_dir, ray_variables=ray_variables)
            say = partial(console.print, highlight=False, soft_wrap=True, markup=False)
            records = PartRunner(run_dir, settings={}, say=say).run(command_parts(steps, run_dir))
    except PartFailedError as error:
        sys.stderr.write(f"error: {error}\nrerun the same command to resume\n")
        return 1
    summary = summarize(run_dir, records, preset=plan.name)
    write_atomic(run_dir / "summary.json", json.dumps(summary, indent=1).encode())
    report = write_report(run_dir)
    if record:
        _record(summary, records, plan)
    console.print(
        f"\nAll steps took {format_duration(summary['seconds_total'])}, "
        f"at most {summary['peak_memory_gb']:.1f} GB of memory.\n"
        f"  the page:     {report}\n"
        f"  the answers:  {run_dir / 'answers.png'}\n"
        f"  the figures:  {run_dir / 'summary.json'}\n"
        f"Ask it yourself:\n  {example_question(run_dir)}",
        highlight=False,
        soft_wrap=True,
    )
    if plan.name == TINY.name:
        console.print("This was --tiny: every step is real, the numbers mean nothing.")
    return 0


@contextmanager
def shared_ray(run_dir: Path) -> Iterator[Callable[[], dict[str, str]]]:
    """One Ray for all steps: started by the first that asks where it is, ended with the block.

    Each step alone would start and end its own, which takes longer than the work of a small one.
    Its processes are recorded in a folder of their own, because steps end what the run folder records.
    """
    ray_dir = run_dir / "ray"
    reap_orphans(ray_dir)
    with ExitStack() as stack:

        @cache
        def variables() -> dict[str, str]:
            from cluster.ray_session import ray_session

            session = stack.enter_context(ray_session(run_dir=ray_dir))
            if not session.started_here:
                return {}
            # Nobody takes back the node of a Ray on this machine.
            return {"RAY_ADDRESS": session.address, "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}

        yield variables


def _record(summary: Mapping[str, Any], records: Sequence[PartRecord], plan: DemoPlan) -> None:
    """The figures of a full run are what the README may quote."""
    figures = derived_figures({name: v for name, v in summary.items() if name != "preset"})
    steps = {f"seconds_{record.name}": record.seconds for record in records}
    write_record(
        "demo",
        config=asdict(plan),
        metrics={**figures, **steps},
        excluded=["installation"],
        command="tfcovr demo --record",
    )


def example_question(run_dir: Path) -> str:
    """A command that repeats the first question of the demo."""
    answer = json.loads((run_dir / "answers.json").read_text())[0]
    return (
        f"tfcovr search --bundle {run_dir / 'stage2' / 'bundle'} "
        f"--milvus-uri {run_dir / 'milvus'} --clip {answer['query_clip_id']} "
        f'--edit "{answer["edit_text"]}" --limit 5'
    )
