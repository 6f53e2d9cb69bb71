"""How near a run came to what its stages can do alone: rate, share of the ceiling, the bottleneck, and the flag that would move it."""

from collections.abc import Mapping, Sequence

from encoders.decoding.backends import DECODE_BACKENDS
from indexing.ledger.summary import StageSpeed
from indexing.pipeline.workers import Workers

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
