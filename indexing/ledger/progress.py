"""Progress of an indexing run while it goes on: a file in its run folder for other processes, and metrics for Prometheus.

The file is replaced as a whole, so that a reader never sees a part of one; it stays when the run ends or is killed.
"""

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from cluster.repetition import repeated
from cluster.storage import write_atomic
from encoders.files import from_dict, read_json
from indexing.ledger.summary import Tally, find_bottleneck, stage_times

logger = logging.getLogger(__name__)
PROGRESS = "progress.json"
_EVERY_S = 2.0
_LOG_EVERY_S = 30.0
# The rate is that of the last minutes: nodes come and go.
_WINDOW_S = 120.0
Labelled = Mapping[tuple[str, ...], float]
"""Values of labels -> the value of the metric."""
Phase = Literal["planning", "indexing", "checking", "finished"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StageLoad:
    """`busy` is the share of the workers' time that went into work; `ceiling_per_s` of all its workers, 0 = not known."""

    workers: int
    busy: float
    ceiling_per_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Where a run stands. Times are seconds since 1970."""

    phase: Phase
    started_s: float
    updated_s: float
    total: int = 0
    """Clips that the run has to make vectors of; 0 before that is known."""
    written: int = 0
    dead: Mapping[str, int] = field(default_factory=dict)
    """`STAGE/REASON` -> clips of this run that failed there."""
    clips_per_s: float = 0.0
    """Of the last two minutes."""
    remaining_s: float | None = None
    """At that rate; None = not known."""
    stages: Mapping[str, StageLoad] = field(default_factory=dict)
    bottleneck: str = ""
    """The stage with the lowest ceiling, or the busiest; "" = not known yet."""
    nodes: int = 1
    node_hours: float = 0.0
    cost: float | None = None
    """Of the nodes so far, in the currency of the price that was given; None without one."""

    @property
    def num_dead(self) -> int:
        """Clips of this run that failed for good."""
        return sum(self.dead.values())

    @property
    def done(self) -> int:
        """Clips that are written or dead."""
        return self.written + self.num_dead


class RunProgress:
    """What a running driver counts, published every two seconds in the run folder."""

    def __init__(self, run_dir: Path, *, price_per_node_h: float = 0.0) -> None:
        self._run_dir = run_dir
        self._price_per_node_h = price_per_node_h
        self.phase: Phase = "planning"
        self._lock = threading.Lock()
        self._count_nodes: Callable[[], int] = lambda: 1
        self._export: Callable[[], None] = lambda: None
        self._tally = Tally()
        self._total = 0
        self._num_workers: Mapping[str, int] = {}
        self._started_s = time.time()
        self._streaming_since_s = time.monotonic()
        self._recent: deque[tuple[float, int]] = deque()
        self._nodes, self._node_s = 1, 0.0
        self._updated_s = self._logged_s = time.monotonic()

    def begin(self, tally: Tally, *, total: int, num_workers: Mapping[str, int]) -> None:
        """The clips begin to stream; `tally` is read from now on."""
        self._tally, self._total, self._num_workers = tally, total, num_workers
        self._streaming_since_s = time.monotonic()
        self.phase = "indexing"

    def snapshot(self) -> Progress:
        """As of now."""
        tally = self._tally
        dead = tally.dead_by_stage()
        done = tally.written + sum(dead.values())
        rate = self._rate(done)
        busy_s = {name: tally.busy_s.get(name, 0.0) for name in self._num_workers}
        seconds = time.monotonic() - self._streaming_since_s
        times = stage_times(busy_s, self._num_workers, seconds=seconds)
        ceilings = tally.ceilings_per_s() if done else {}
        stages = {
            stage.name: StageLoad(
                workers=stage.num_workers,
                busy=stage.utilisation,
                ceiling_per_s=round(ceilings.get(stage.name, 0.0) * stage.num_workers, 3),
            )
            for stage in times
        }
        known = {name: stage.ceiling_per_s for name, stage in stages.items() if stage.ceiling_per_s}
        slowest = min(known, key=lambda name: known[name]) if known else find_bottleneck(times)
        hours = self._node_s / 3600
        return Progress(
            phase=self.phase,
            started_s=self._started_s,
            updated_s=time.time(),
            total=self._total,
            written=tally.written,
            dead=dead,
            clips_per_s=round(rate, 3),
            remaining_s=round((self._total - done) / rate, 1) if rate else None,
            stages=stages,
            bottleneck=slowest if done else "",
            nodes=self._nodes,
            node_hours=round(hours, 6),
            cost=round(hours * self._price_per_node_h, 4) if self._price_per_node_h else None,
        )

    def _rate(self, done: int) -> float:
        now_s = time.monotonic()
        while self._recent and self._recent[0][0] < now_s - _WINDOW_S:
            self._recent.popleft()
        self._recent.append((now_s, done))
        first_s, first_done = self._recent[0]
        return (done - first_done) / (now_s - first_s) if now_s > first_s else 0.0

    @contextmanager
    def attached(
        self, *, count_nodes: Callable[[], int], export: Callable[[], None]
    ) -> Iterator[None]:
        """While the block runs, ask how many machines the run uses, and export after each update of the file; not a moment longer."""
        with self._lock:
            self._count_nodes, self._export = count_nodes, export
        try:
            yield
            self.publish()
        finally:
            with self._lock:
                self._count_nodes, self._export = lambda: 1, lambda: None

    def publish(self) -> None:
        """Write the file, and export."""
        with self._lock:
            self._publish()

    def _publish(self) -> None:
        now_s = time.monotonic()
        self._node_s += self._nodes * (now_s - self._updated_s)
        self._updated_s = now_s
        self._nodes = self._count_nodes()
        progress = self.snapshot()
        values = json.dumps(asdict(progress), indent=2) + "\n"
        try:
            write_atomic(self._run_dir / PROGRESS, values)
        except OSError as error:  # the run itself ends where it cannot write
            logger.warning("%s was not written: %s", self._run_dir / PROGRESS, error)
        if now_s - self._logged_s >= _LOG_EVERY_S:
            self._logged_s = now_s
            logger.info("progress", extra={"fields": asdict(progress)})
        self._export()

    @contextmanager
    def published(self) -> Iterator[None]:
        """Publish while the block runs, and at its end; `phase` then says whether it ended well."""
        self.publish()
        try:
            with repeated(self.publish, every_s=_EVERY_S, name="publish-progress"):
                yield
            self.phase = "finished"
        finally:
            self.publish()

    def collect(self) -> Iterator[Metric]:
        """The metrics, as a collector of prometheus_client."""
        progress = self.snapshot()
        run = self._run_dir.name

        def metric(name: str, text: str, values: Labelled, *labels: str) -> Metric:
            family = GaugeMetricFamily(f"tfcovr_index_{name}", text, labels=["run", *labels])
            for more, value in values.items():
                family.add_metric([run, *more], value)
            return family

        outcomes = {"write/written": progress.written, **progress.dead}
        yield metric(
            "clips",
            "clips of this run so far, by the stage that they ended in and how",
            {tuple(name.split("/", 1)): count for name, count in outcomes.items()},
            "stage",
            "outcome",
        )
        remaining_s = progress.remaining_s
        for name, text, value in (
            ("clips_planned", "clips that this run has to do", progress.total),
            ("clips_per_second", "of the last two minutes", progress.clips_per_s),
            (
                "remaining_seconds",
                "until the last clip at the present rate, NaN = not known",
                float("nan") if remaining_s is None else remaining_s,
            ),
            ("nodes", "machines of the run", progress.nodes),
            ("cost", "of the nodes so far, 0 without a price", progress.cost or 0.0),
        ):
            yield metric(name, text, {(): value})
        for name, text, read in _STAGE_METRICS:
            loads = {(stage,): read(load) for stage, load in progress.stages.items()}
            yield metric(name, text, loads, "stage")


_STAGE_METRICS: tuple[tuple[str, str, Callable[[StageLoad], float]], ...] = (
    ("stage_workers", "workers of a stage", lambda load: load.workers),
    ("stage_busy_ratio", "share of the workers' time that went into work", lambda load: load.busy),
    (
        "stage_ceiling_per_second",
        "clips that the workers of a stage can do, 0 = not known",
        lambda load: load.ceiling_per_s,
    ),
)


def read_progress(run_dir: Path) -> Progress:
    """ValueError where no run of this version has been in the folder."""
    path = run_dir / PROGRESS
    if not path.exists():
        raise ValueError(f"{path} is not there; give the --run-dir of a `tfcovr index`")
    return from_dict(Progress, read_json(path), str(path))
