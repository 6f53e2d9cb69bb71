"""What an archive will cost to index: from what runs of a sample took to hours, a price and the stage that binds.

A run takes its start, and from then on as long as the resource that has most to do: the cores, the GPUs, the writers of Milvus, the
fetchers, or the one driver, which no further node relieves.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from encoders.files import read_json

_COMPUTE = ("decode", "embed")


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredRun:
    """What a run took; seconds of a stage are summed over its workers, and those of a stage on cores are CPU-seconds."""

    clips: int
    seconds: float
    """Of the dataflow, start of the workers included."""
    busy_s: Mapping[str, float]
    """Of each stage, and of the `driver`."""
    devices: Mapping[str, str]
    """`cpu` or `cuda` of the decode and the embed stage."""
    workers: Mapping[str, int]
    cpus: float
    gpus: float


def measured_run(path: str | Path) -> MeasuredRun:
    """Of an `index_summary.json`; ValueError for one without work or of another version."""
    try:
        values = read_json(path)
        stages = values["stages"]
        run = MeasuredRun(
            clips=values["written"] + sum(values["dead_in_run"].values()),
            seconds=values["seconds"],
            busy_s={stage["name"]: stage["busy_s"] for stage in stages}
            | {"driver": values["driver_cpu_s"]},
            devices=values["devices"],
            workers={stage["name"]: stage["num_workers"] for stage in stages},
            cpus=values["num_cpus"],
            gpus=values["num_gpus"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not the index_summary.json of a run of this version: {error}"
        ) from error
    if not run.clips or not run.seconds:
        raise ValueError(f"{path} is of a run that had nothing to do; give one that wrote clips")
    return run


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Seconds a clip of each stage, and of the start of a run."""

    seconds_per_clip: Mapping[str, float]
    start_s: float
    start_cpu_s: float
    """CPU-seconds of decoding and encoding beyond those of the clips: what a worker does once."""
    devices: Mapping[str, str]
    workers_per_node: Mapping[str, int]
    gpu_share: float
    """GPUs for each worker that is on one; 0 = none is."""


def rates_of(large: MeasuredRun, small: MeasuredRun | None = None) -> Rates:
    """Of one run as a whole; with a smaller one of the same clips, without what the start of the workers costs."""
    fewer = small.clips if small else 0
    if fewer >= large.clips:
        raise ValueError(f"the smaller run has {fewer} clips and the larger {large.clips}")
    per_clip = {
        name: max(seconds - (small.busy_s.get(name, 0.0) if small else 0.0), 0.0)
        / (large.clips - fewer)
        for name, seconds in large.busy_s.items()
    }
    on_gpu = max((large.workers[n] for n in _COMPUTE if large.devices[n] == "cuda"), default=0)
    rates = Rates(
        seconds_per_clip=per_clip,
        start_s=0.0,
        start_cpu_s=0.0,
        devices=large.devices,
        workers_per_node=large.workers,
        gpu_share=large.gpus / on_gpu if on_gpu else 0.0,
    )
    if small is None:
        return rates
    node = Nodes(count=1, cpus=large.cpus, gpus=large.gpus)
    work_s = max(_work_s(rates, small.clips, node).values())
    once_s = [small.busy_s[name] - small.clips * per_clip[name] for name in _on_cpu(rates)]
    return replace(
        rates, start_s=max(small.seconds - work_s, 0.0), start_cpu_s=max(sum(once_s), 0.0)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Nodes:
    """The machines of a run, all of one kind."""

    count: int
    cpus: float
    gpus: float
    price_per_h: float = 0.0
    """Of one of them, in any currency; 0 = not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveSize:
    """What is to be indexed; `hours` is estimated from a sample where the list does not say, None where that cannot tell either."""

    videos: int
    clips: int
    bytes: int
    hours: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """Time, price and bottleneck of a run over `size` on `nodes`."""

    size: ArchiveSize
    nodes: Nodes
    rates: Rates
    work_s: Mapping[str, float]
    """Seconds that each resource would take for the whole archive alone."""

    @property
    def binds(self) -> str:
        """The resource that has most to do."""
        return max(self.work_s, key=lambda name: self.work_s[name])

    @property
    def seconds(self) -> float:
        """Of the dataflow: the start of the workers, then the resource that binds."""
        return self.rates.start_s + self.work_s[self.binds]

    @property
    def cpu_s(self) -> float:
        """CPU-seconds of decoding and encoding on one node."""
        per_clip_s = sum(self.rates.seconds_per_clip[name] for name in _on_cpu(self.rates))
        return self.rates.start_cpu_s + self.size.clips * per_clip_s

    @property
    def price(self) -> float | None:
        """Of all nodes for that time; None without a price."""
        hours = self.seconds / 3600 * self.nodes.count
        return hours * self.nodes.price_per_h if self.nodes.price_per_h else None

    def lines(self) -> Iterator[str]:
        """For people."""
        size, nodes = self.size, self.nodes
        hours = "length unknown" if size.hours is None else f"{size.hours:,.1f} hours"
        yield f"{size.videos:,} videos, {size.clips:,} clips, {hours}, {size.bytes / 1e9:,.2f} GB"
        measured = ", ".join(
            f"{name} {1000 * seconds:.2f}"
            for name, seconds in self.rates.seconds_per_clip.items()
            if seconds
        )
        yield f"measured, ms a clip: {measured}; start {self.rates.start_s:.0f} s"
        kind = f"{nodes.cpus:g} cores" + (f" and {nodes.gpus:g} GPUs" if nodes.gpus else "")
        price = "" if self.price is None else f", price {self.price:,.2f}"
        yield f"{nodes.count} nodes with {kind} each: {self.seconds / 3600:,.2f} h{price}"
        shares = ", ".join(
            f"{name} {seconds / 3600:,.2f} h"
            for name, seconds in sorted(self.work_s.items(), key=lambda item: -item[1])
        )
        yield f"bound by {self.binds} (each alone: {shares})"
        if self.binds in ("driver", "write"):
            yield "more nodes do not shorten it: one driver plans and counts, and one Milvus takes the rows"


def forecast_run(rates: Rates, size: ArchiveSize, nodes: Nodes) -> Forecast:
    """ValueError where the rates are those of GPUs and the nodes have none."""
    if rates.gpu_share and not nodes.gpus:
        raise ValueError(
            "the rates were measured on GPUs; say how many a node has, --forecast.gpus"
        )
    return Forecast(size=size, nodes=nodes, rates=rates, work_s=_work_s(rates, size.clips, nodes))


def _on_cpu(rates: Rates) -> list[str]:
    return [name for name in _COMPUTE if rates.devices[name] == "cpu"]


def _work_s(rates: Rates, clips: int, nodes: Nodes) -> dict[str, float]:
    seconds = rates.seconds_per_clip
    on_gpu = [name for name in _COMPUTE if rates.devices[name] == "cuda"]
    # One machine does everything; of several, the driver has a core of its own and Milvus machines of its own.
    on_cpu = [*_on_cpu(rates), *(("write", "driver") if nodes.count == 1 else ())]
    work = {"cores": sum(seconds.get(name, 0.0) for name in on_cpu) / (nodes.count * nodes.cpus)}
    if on_gpu:
        busy_s = sum(seconds[name] for name in on_gpu) * rates.gpu_share
        work["GPUs"] = busy_s / (nodes.count * nodes.gpus)
    work["driver"] = seconds.get("driver", 0.0)
    for name in ("fetch", "write"):
        if seconds.get(name):
            workers = rates.workers_per_node.get(name, 1)
            work[name] = seconds[name] / (workers * (nodes.count if name == "fetch" else 1))
    return {name: clips * each for name, each in work.items()}
