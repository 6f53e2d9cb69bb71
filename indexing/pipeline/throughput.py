"""How near a run came to what its stages can do alone: rate, share of the ceiling, the bottleneck, and the flag that would move it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from encoders.decoding.backends import DECODE_BACKENDS
from encoders.stages.base import DeadLetter
from indexing.ledger.finished import Counts
from indexing.ledger.summary import IndexSummary, StageSpeed, Tally, find_bottleneck, stage_times
from indexing.pipeline.config import IndexConfig
from indexing.pipeline.recompute import Recomputed
from indexing.pipeline.workers import Workers
from indexing.store.endpoint import is_lite

if TYPE_CHECKING:
    from cluster.ray_session import RaySession

_LABELS = {"fetch": "fetch", "decode": "decode", "embed": "encode", "write": "write"}
_NEAR = 0.25


def stage_speeds(
    ceilings_per_s: Mapping[str, float], num_workers: Mapping[str, int], achieved_per_s: float
) -> tuple[StageSpeed, ...]:
    """`ceilings_per_s` are those of one worker each, on average."""
    return tuple(
        StageSpeed(
            name=name,
            achieved_per_s=round(achieved_per_s, 3),
            ceiling_per_s=round(ceilings_per_s.get(name, 0.0) * count, 3),
        )
        for name, count in num_workers.items()
    )


def slowest_stage(speeds: Sequence[StageSpeed]) -> str:
    """The stage with the lowest ceiling; "" where none is known."""
    known = [speed for speed in speeds if speed.ceiling_per_s]
    return min(known, key=lambda speed: speed.ceiling_per_s).name if known else ""


def advise(bottleneck: str, workers: Workers, *, num_cpus: float, is_lite: bool) -> str:
    """The flag that would move the bottleneck, or the machine that would."""
    if bottleneck == "fetch":
        return "--fetch.num-workers"
    if bottleneck == "write":
        return (
            "--milvus-uri http://HOST:19530 (Milvus Lite takes one writer)"
            if is_lite
            else f"--workers.num-write-workers {workers.num_write + 1}"
        )
    on_gpu = workers.embed_device == "cuda"
    cpus_taken = workers.num_decode * workers.cpus_per_decode
    cpus_taken += workers.num_embed * workers.cpus_per_embed
    has_spare_cpu = cpus_taken + 1 <= num_cpus
    if bottleneck == "decode":
        on_gpus = [
            name for name, backend in DECODE_BACKENDS.items() if "cuda" in backend.device_kinds
        ]
        if on_gpu and workers.decode_device == "cpu" and on_gpus:
            return f"--workers.decode {on_gpus[0]}"
        if has_spare_cpu:
            return f"--workers.num-decode-workers {workers.num_decode + 1}"
    if bottleneck == "embed":
        if on_gpu:
            return "--batch-size, or more GPUs by RAY_ADDRESS"
        if has_spare_cpu:
            return f"--workers.num-embed-workers {workers.num_embed + 1}"
    return "more cores or GPUs by RAY_ADDRESS (decode and encode share these)"


def share_of_cores(speeds: Sequence[StageSpeed], workers: Workers, rate_per_s: float) -> float:
    """Of the cores' time, what decoding and encoding alone need at this rate; 0 where they do not share cores.

    Each stage's ceiling is that of all its workers with a core each, which they may not have. The rate is that of the whole run:
    what was decoded while the encoders started is in it, and so is their start.
    """
    if (workers.decode_device, workers.embed_device) != ("cpu", "cpu"):
        return 0.0
    cores_per_worker = {"decode": workers.cpus_per_decode, "embed": workers.cpus_per_embed}
    if all(cores == 1 for cores in cores_per_worker.values()):
        return 0.0
    ceilings = [speed.ceiling_per_s for speed in speeds if speed.name in cores_per_worker]
    if not all(ceilings):
        return 0.0
    workers_per_core = max(1 / sum(cores_per_worker.values()), 1.0)
    return workers_per_core * sum(rate_per_s / ceiling for ceiling in ceilings)


def speed_line(
    speeds: Sequence[StageSpeed], bottleneck: str, advice: str, *, cores: float = 0.0
) -> str:
    """For people, one line. `cores`: see `share_of_cores`."""
    parts = [
        f"{_LABELS.get(speed.name, speed.name)} {speed.share:.0%} of {speed.ceiling_per_s:.1f}"
        if speed.ceiling_per_s
        else f"{_LABELS.get(speed.name, speed.name)} of unknown ceiling"
        for speed in speeds
    ]
    rate = speeds[0].achieved_per_s if speeds else 0.0
    if cores:
        parts[-1] += (
            f" clips/s, decode and encode together {cores:.0%} of the cores they share, start included"
        )
    if max((speed.share for speed in speeds), default=0.0) < _NEAR:
        moved = "but nothing was near its ceiling: a short run, or a machine that others use"
    else:
        moved = f"moved by {advice}"
    return (
        f"speed of light: {rate:.1f} clips/s is {', '.join(parts)}{'' if cores else ' clips/s'}; "
        f"bottleneck {_LABELS.get(bottleneck, bottleneck)}, {moved}"
    )


@dataclass(kw_only=True, slots=True)
class Pass:
    """What one run did; nothing computed where there was nothing to do."""

    tally: Tally = field(default_factory=Tally)
    seconds: float = 0.0
    workers: Workers | None = None
    recomputed: Recomputed | None = None
    refreshed: int = 0
    deleted: int = 0
    has_remote: bool = False
    index: str = ""
    rows_in_collection: int = 0


def summary_of(
    done: Pass,
    counts: Counts,
    config: IndexConfig,
    *,
    encoder_id: str,
    session: "RaySession | None",
    letters: Sequence[DeadLetter],
) -> IndexSummary:
    """The record of a run."""
    tally, seconds, workers = done.tally, done.seconds, done.workers
    per_node = config.fetch.num_workers if done.has_remote else 0
    num_workers = workers.by_stage(per_node * workers.num_nodes) if workers else {}
    stages = stage_times(tally.busy_s, num_workers, seconds=seconds)
    whole_rate = tally.written / seconds if seconds else 0.0
    rate = tally.clips_per_s_warm() or whole_rate
    speeds = stage_speeds(tally.ceilings_per_s(), num_workers, rate)
    bottleneck = slowest_stage(speeds) or find_bottleneck(stages)
    num_cpus = session.num_cpus if session else 0.0
    line = ""
    if workers and tally.written:
        advice = advise(bottleneck, workers, num_cpus=num_cpus, is_lite=is_lite(config.milvus_uri))
        cores = share_of_cores(speeds, workers, whole_rate)
        line = speed_line(speeds, bottleneck, advice, cores=cores)
    return IndexSummary(
        clips_in=counts.clips,
        written=tally.written,
        dead=sum(counts.dead_by_reason.values()),
        dead_by_reason=counts.dead_by_reason,
        skipped=max(counts.present - tally.written, 0),
        missing=counts.missing,
        stale=counts.stale,
        orphaned=counts.orphaned,
        refreshed=done.refreshed,
        recomputed=done.recomputed.line() if done.recomputed else "",
        deleted=done.deleted,
        rows_in_collection=done.rows_in_collection,
        index=done.index,
        seconds=round(seconds, 3),
        clips_per_s=round(whole_rate, 3),
        clips_per_s_warm=round(tally.clips_per_s_warm(), 3),
        bottleneck=bottleneck,
        speed_of_light=line,
        speeds=speeds,
        stages=stages,
        dead_in_run=tally.dead_by_stage(),
        driver_cpu_s=round(tally.driver_cpu_s, 3),
        devices=workers.devices() if workers else {},
        num_cpus=num_cpus,
        num_gpus=session.num_gpus if session else 0.0,
        embed_backends=dict(tally.embed_backends),
        decode_backends=dict(tally.decode_backends),
        frames_decoded=tally.frames_decoded,
        frames_used=tally.frames_used,
        decode_fallbacks=dict(tally.decode_fallbacks),
        canary_min_cosine=tally.canary_min_cosine,
        encoder_id=encoder_id,
        bundle_dir=str(config.bundle),
        milvus_uri=config.milvus_uri,
        collection=config.collection,
        dead_letters=tuple(letters),
    )
