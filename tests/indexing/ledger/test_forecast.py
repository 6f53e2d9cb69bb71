"""Forecasts against runs whose cost is known: a start, then so many seconds a clip on each resource."""

import json
from dataclasses import replace

import pytest

from indexing.ledger.forecast import (
    ArchiveSize,
    MeasuredRun,
    Nodes,
    forecast_run,
    measured_run,
    rates_of,
)

PER_CLIP_S = {"decode": 0.02, "embed": 0.06, "write": 0.002, "driver": 0.001}
START_S, START_CPU_S = 8.0, {"decode": 1.5, "embed": 2.5, "write": 0.1, "driver": 0.3}


def run_of(clips: int, *, device: str = "cpu", gpus: float = 0.0) -> MeasuredRun:
    """On two cores, which work all the time once the workers have started."""
    return MeasuredRun(
        clips=clips,
        seconds=START_S + clips * sum(PER_CLIP_S.values()) / 2,
        busy_s={name: START_CPU_S[name] + clips * each for name, each in PER_CLIP_S.items()},
        devices={"decode": "cpu", "embed": device},
        workers={"decode": 2, "embed": 2, "write": 1},
        cpus=2.0,
        gpus=gpus,
    )


def size(clips: int) -> ArchiveSize:
    return ArchiveSize(videos=clips, clips=clips, bytes=clips * 10**6, hours=clips / 1800)


def test_two_runs_tell_the_start_from_what_a_clip_takes():
    forecast = forecast_run(
        rates_of(run_of(50), run_of(10)), size(2000), Nodes(count=1, cpus=2, gpus=0)
    )
    assert forecast.seconds == pytest.approx(run_of(2000).seconds)
    assert forecast.cpu_s == pytest.approx(2000 * 0.08 + 1.5 + 2.5)
    assert forecast.binds == "cores"
    # The run alone counts its start as work: too much for an archive that is forty times as large.
    alone = forecast_run(rates_of(run_of(50)), size(2000), forecast.nodes)
    assert alone.seconds > 1.5 * forecast.seconds


def test_more_nodes_help_until_the_driver_binds():
    rates = rates_of(run_of(50), run_of(10))

    def hours(nodes: int) -> float:
        kind = Nodes(count=nodes, cpus=4, gpus=0, price_per_h=2.0)
        return forecast_run(rates, size(10**7), kind).seconds / 3600

    assert hours(2) == pytest.approx(10**7 * 0.08 / 8 / 3600, rel=0.01)
    assert hours(4) == pytest.approx(hours(2) / 2, rel=0.01)
    far = forecast_run(rates, size(10**7), Nodes(count=400, cpus=16, gpus=0, price_per_h=2.0))
    assert far.binds == "write"
    assert far.price == pytest.approx(2.0 * 400 * far.seconds / 3600)
    assert "more nodes do not shorten it" in "\n".join(far.lines())


def test_a_gpu_counts_for_all_workers_that_share_it():
    run = run_of(50, device="cuda", gpus=1.0)
    rates = rates_of(run, run_of(10, device="cuda", gpus=1.0))
    forecast = forecast_run(rates, size(10**6), Nodes(count=2, cpus=64, gpus=4))
    assert forecast.work_s["GPUs"] == pytest.approx(10**6 * 0.06 / 2 / 8)
    with pytest.raises(ValueError, match=r"--forecast\.gpus"):
        forecast_run(rates, size(10**6), Nodes(count=2, cpus=64, gpus=0))


def test_a_record_is_the_summary_of_a_run_that_did_something(tmp_path):
    path = tmp_path / "index_summary.json"
    run = run_of(50)
    stages = [
        {"name": name, "num_workers": count, "busy_s": run.busy_s[name], "utilisation": 0.5}
        for name, count in run.workers.items()
    ]
    values = {
        "written": 48,
        "dead_in_run": {"decode/decode_timeout": 2},
        "seconds": run.seconds,
        "stages": stages,
        "driver_cpu_s": run.busy_s["driver"],
        "devices": run.devices,
        "num_cpus": 2.0,
        "num_gpus": 0.0,
    }
    path.write_text(json.dumps(values))
    assert measured_run(path) == replace(run)
    path.write_text(json.dumps(values | {"written": 0, "dead_in_run": {}}))
    with pytest.raises(ValueError, match="had nothing to do"):
        measured_run(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="not the index_summary"):
        measured_run(path)
