"""Summary of an indexing run: counts, throughput, the bottleneck, and which backends really ran."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from cluster.storage import write_atomic
from encoders.files import read_json
from encoders.stages.base import DeadLetter, error_of
from indexing.sources.uris import public_uri


@dataclass(frozen=True, kw_only=True, slots=True)
class StageSpeed:
    """Clips per second of one stage. The ceiling is that of its workers, measured by each in the first moments of its life."""

    name: str
    achieved_per_s: float
    ceiling_per_s: float
    """0 = could not be measured."""

    @property
    def share(self) -> float:
        """Of the ceiling, 0 where there is none."""
        return self.achieved_per_s / self.ceiling_per_s if self.ceiling_per_s else 0.0


SUMMARY = "index_summary.json"
_NOW = ("clips_in", "dead", "dead_by_reason", "missing", "stale", "orphaned", "rows_in_collection")
_WARM_SHARE = 0.2
_CEILING_COLUMNS = {
    "fetch": "fetch_ceiling_bytes_per_s",
    "decode": "decode_ceiling_per_s",
    "embed": "embed_ceiling_per_s",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StageTime:
    """`busy_s` is summed over the workers; `utilisation` is its share of workers x wall time."""

    name: str
    num_workers: int
    busy_s: float
    utilisation: float


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexSummary:
    """The record of one run. clips_in = written + dead + skipped, where nothing is missing."""

    clips_in: int
    written: int
    """Clips whose vector this run made and stored."""
    dead: int
    """Clips that have no row, now or from an earlier run; the reasons are in dead_letters.parquet."""
    dead_by_reason: Mapping[str, int]
    skipped: int
    """Clips that were in the collection already."""
    missing: int
    """Clips without a row and without a reason: rows that went while the run went on. The same command brings them."""
    stale: int = 0
    """Rows of former content that appeared while the run went on, as a run writes that was taken for dead. The same command deletes them."""
    orphaned: int = 0
    """Rows of clips that the archive does not have any more, and that searches still answer with: --prune deletes them."""
    refreshed: int
    """Of the skipped: rows whose label, attributes or file name were brought up to date."""
    recomputed: str
    """How the vectors of a sample of the written clips compare with vectors of the same clips computed again; "" without one."""
    deleted: int
    """Rows of former content or spans (and with --prune of clips that the archive lost)."""
    rows_in_collection: int
    index: str
    """FLAT (exact) or HNSW."""
    seconds: float
    """Of the dataflow, start of Ray's workers included; 0 when there was nothing to do."""
    clips_per_s: float
    """Written clips over `seconds`."""
    clips_per_s_warm: float
    """The same from the first result batch on, without it: what a long run comes to; 0 where a run was too short to say."""
    bottleneck: str
    """The stage with the lowest ceiling (the busiest where none is known), "" when there was nothing to do."""
    speed_of_light: str
    """The rate as shares of the ceilings, and the flag that would move the bottleneck; "" when nothing was written."""
    speeds: tuple[StageSpeed, ...]
    stages: tuple[StageTime, ...]
    dead_in_run: Mapping[str, int]
    """STAGE/REASON -> clips that failed in this run."""
    driver_cpu_s: float
    """CPU-seconds of the driver while the clips streamed."""
    devices: Mapping[str, str]
    """`cpu` or `cuda` of the decode and the embed stage; empty when there was nothing to do."""
    num_cpus: float
    """Of all nodes."""
    num_gpus: float
    embed_backends: Mapping[str, int]
    decode_backends: Mapping[str, int]
    frames_decoded: int
    """Frames that came out of the decoders of this run."""
    frames_used: int
    """Frames that the clips of this run are made of; a frame of two clips counts twice."""
    decode_fallbacks: Mapping[str, int]
    """Reason -> clips, where another decoder than the one asked for did the work."""
    canary_min_cosine: float | None
    """Lowest cosine of the bundle's canaries with their vectors, over all workers; None = no work."""
    encoder_id: str
    bundle_dir: str
    milvus_uri: str
    """Kept without user and password, for it is printed and written."""
    collection: str
    dead_letters: tuple[DeadLetter, ...]
    """The first of them; dead_letters.parquet has all."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "milvus_uri", public_uri(self.milvus_uri))

    @property
    def status(self) -> int:
        """Exit status of the command: 1 where a clip has no row, dead or missing, or a stale one."""
        return 1 if self.missing or self.dead or self.stale else 0

    @property
    def _is_all_dead(self) -> bool:
        return self.dead == self.clips_in > 0

    def lines(self) -> list[str]:
        """For people."""
        where = f"collection {self.collection!r} at {self.milvus_uri}"
        lines = [
            f"{self.clips_in} clips: {self.written} written, {self.skipped} already there, "
            f"{self.dead} dead; {self.rows_in_collection} rows ({self.index}) in {where}"
        ]
        if self.seconds:
            times = ", ".join(
                f"{stage.name} {stage.busy_s:.1f} s busy ({stage.utilisation:.0%})"
                for stage in self.stages
            )
            warm = f", {self.clips_per_s_warm:.1f} once warm" if self.clips_per_s_warm else ""
            lines.append(
                f"{self.clips_per_s:.1f} clips/s over {self.seconds:.1f} s{warm}; "
                f"bottleneck: {self.bottleneck} ({times})"
            )
            lines.append(
                f"embedded by {_counts(self.embed_backends)}, decoded by {_counts(self.decode_backends)}; "
                f"{self.frames_decoded} frames decoded for {self.frames_used} used"
            )
            if self.speed_of_light:
                lines.append(self.speed_of_light)
        if self.recomputed:
            lines.append(self.recomputed)
        for reason, count in self.decode_fallbacks.items():
            lines.append(f"decoded by another decoder than asked for ({count} clips): {reason}")
        for reason, count in self.dead_by_reason.items():
            lines.append(f"dead: {count} x {reason}")
        if self._is_all_dead:
            lines.append(
                "not one clip could be used: see dead_letters.parquet, and that the videos are where --clips says"
            )
        return lines + self._lines_of_rows()

    def _lines_of_rows(self) -> list[str]:
        """What is not as it should be between clips and rows, and what was mended."""
        lines = []
        if self.missing:
            lines.append(
                f"missing: {self.missing} clips have no row and no reason why; run the same command again"
            )
        if self.stale:
            lines.append(
                f"stale: {self.stale} rows of former content appeared while the run went on, as a run writes that was taken for dead; "
                "run the same command again, which deletes them"
            )
        if self.orphaned:
            lines.append(
                f"orphaned: {self.orphaned} rows are of clips that are not listed any more, and still answer; --prune deletes them"
            )
        if self.refreshed or self.deleted:
            lines.append(
                f"{self.refreshed} rows brought up to date, {self.deleted} old rows deleted"
            )
        return lines


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.items()) or "nothing"


@dataclass(kw_only=True, slots=True)
class Tally:
    """Adds up result batches while they stream."""

    written: int = 0
    dead: int = 0
    driver_cpu_s: float = 0.0
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(stage, reason) -> clips that failed there."""
    busy_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    embed_backends: Counter[str] = field(default_factory=Counter)
    decode_backends: Counter[str] = field(default_factory=Counter)
    decode_fallbacks: Counter[str] = field(default_factory=Counter)
    frames_decoded: int = 0
    frames_used: int = 0
    fetch_bytes: float = 0.0
    canary_min_cosine: float | None = None
    _ceiling_sums: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _num_ceilings: Counter[str] = field(default_factory=Counter)
    _started_s: float = field(default_factory=lambda: time.perf_counter())
    _first: tuple[float, int] | None = None
    _last_s: float = 0.0

    def dead_by_stage(self) -> dict[str, int]:
        """STAGE/REASON -> clips that failed there."""
        errors = dict(self.errors)  # read while batches are added
        return {f"{stage}/{reason}": count for (stage, reason), count in errors.items()}

    def clips_per_s_warm(self) -> float:
        """From the first batch to the last, without the first; 0 where that was only the end of the run.

        The clips of one video leave the decoder together: of a run of few videos the batches come at once, at its end.
        """
        if self._first is None:
            return 0.0
        warm_s = self._last_s - self._first[0]
        if warm_s <= _WARM_SHARE * (self._last_s - self._started_s):
            return 0.0
        return (self.written - self._first[1]) / warm_s

    def ceilings_per_s(self) -> dict[str, float]:
        """Clips per second of one worker; a fetch worker is measured in bytes, and clips have as many as these had.

        A writer's is what it wrote over the time that it spent on writing.
        """
        ceilings = {
            name: self._ceiling_sums[name] / num
            for name, num in dict(self._num_ceilings).items()  # read while batches are added
            if num
        }
        if self.fetch_bytes > 0 and "fetch" in ceilings:
            ceilings["fetch"] *= (self.written + self.dead) / self.fetch_bytes
        if self.busy_s["write"] > 0:
            ceilings["write"] = (self.written + self.dead) / self.busy_s["write"]
        return ceilings

    def add(self, batch: Mapping[str, np.ndarray]) -> None:
        """One batch that came out of the write stage."""
        errors = [error_of(error) for error in batch["error"]]
        is_ok = np.array([error is None for error in errors])
        self.errors.update((error.stage, error.reason) for error in errors if error is not None)
        self.written += int(is_ok.sum())
        self.dead += int((~is_ok).sum())
        self._last_s = time.perf_counter()
        self._first = self._first or (self._last_s, self.written)
        for name in ("fetch", "decode", "embed", "write"):
            self.busy_s[name] += float(batch[f"{name}_busy_s"].sum())
        for name, column in _CEILING_COLUMNS.items():
            self._ceiling_sums[name] += float(batch[column].sum())
            self._num_ceilings[name] += int(np.count_nonzero(batch[column]))
        self.fetch_bytes += float(batch["fetch_bytes"].sum())
        self.frames_decoded += int(batch["frames_decoded"].sum())
        self.frames_used += int(batch["frames_used"].sum())
        self.embed_backends.update(map(str, batch["embed_backend"][is_ok]))
        self.decode_backends.update(map(str, batch["decode_backend"][is_ok]))
        if "decode_fallback_reason" in batch:
            self.decode_fallbacks.update(
                str(reason) for reason in batch["decode_fallback_reason"] if reason
            )
        lowest = float(batch["canary_min_cosine"].min())
        if self.canary_min_cosine is None or lowest < self.canary_min_cosine:
            self.canary_min_cosine = lowest


def stage_times(
    busy_s: Mapping[str, float], num_workers: Mapping[str, int], *, seconds: float
) -> tuple[StageTime, ...]:
    """In the order of the dataflow."""
    return tuple(
        StageTime(
            name=name,
            num_workers=count,
            busy_s=round(busy_s.get(name, 0.0), 3),
            utilisation=round(busy_s.get(name, 0.0) / (count * seconds), 4) if seconds else 0.0,
        )
        for name, count in num_workers.items()
    )


def find_bottleneck(stages: Sequence[StageTime]) -> str:
    """The stage that would have to get more workers first."""
    return max(stages, key=lambda stage: stage.utilisation).name if stages else ""


def write_summary(run_dir: str | Path, summary: IndexSummary) -> None:
    """The file describes the last run that did something; `now` is the archive as the last run left it."""
    path = Path(run_dir) / SUMMARY
    values = asdict(summary)
    now = {name: values[name] for name in _NOW}
    values["dead_letters"] = [letter.to_columns() for letter in summary.dead_letters]
    if not summary.seconds:
        with suppress(OSError, ValueError):  # there is none, or it is damaged
            values = read_json(path)
    write_atomic(path, json.dumps(values | {"now": now}, indent=2) + "\n")
