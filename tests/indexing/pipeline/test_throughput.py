from dataclasses import replace

import pytest

from indexing.pipeline.throughput import (
    advise,
    share_of_cores,
    slowest_stage,
    speed_line,
    stage_speeds,
)
from indexing.pipeline.workers import Workers

CPU = Workers(
    num_decode=1,
    num_embed=1,
    num_write=1,
    cpus_per_decode=1.0,
    cpus_per_embed=1.0,
    gpus_per_decode=0.0,
    gpus_per_embed=0.0,
    decode_backend="pyav",
    decode_device="cpu",
    embed_device="cpu",
)
GPU = replace(CPU, gpus_per_embed=1.0, embed_device="cuda")


def test_shares_are_of_all_workers_and_the_lowest_ceiling_is_the_bottleneck() -> None:
    speeds = stage_speeds(
        {"decode": 10.0, "write": 900.0}, {"decode": 2, "embed": 1, "write": 1}, 15.0
    )
    assert [one.share for one in speeds] == [0.75, 0.0, pytest.approx(1 / 60)]
    assert slowest_stage(speeds) == "decode"
    assert speed_line(speeds, "decode", "--flag") == (
        "speed of light: 15.0 clips/s is decode 75% of 20.0, encode of unknown ceiling, "
        "write 2% of 900.0 clips/s; bottleneck decode, moved by --flag"
    )
    idle = stage_speeds({"decode": 10.0}, {"decode": 1}, 0.1)
    assert speed_line(idle, "decode", "--flag").endswith(
        "a short run, or a machine that others use"
    )


def test_stages_that_share_cores_are_measured_against_the_cores() -> None:
    """Two cores, 0.1 s of decoding and 0.3 s of encoding a clip: 5 clips/s is all there is."""
    halves = replace(CPU, num_decode=2, num_embed=2, cpus_per_decode=0.5, cpus_per_embed=0.5)
    ceilings, counts = {"decode": 10.0, "embed": 1 / 0.3, "write": 900.0}, {"decode": 2, "embed": 2, "write": 1}  # fmt: skip
    speeds = stage_speeds(ceilings, counts, 4.0)
    assert share_of_cores(speeds, halves, 4.0) == pytest.approx(0.8, abs=1e-3)
    assert "together 80% of the cores" in speed_line(
        speeds, "embed", "", cores=share_of_cores(speeds, halves, 4.0)
    )
    # Workers that do both, as many as cores, and twice as many on half as many cores.
    both = replace(CPU, num_decode=2, num_embed=2, cpus_per_embed=0.0, is_shared=True)
    assert share_of_cores(speeds, both, 4.0) == pytest.approx(0.8, abs=1e-3)
    crowded = replace(both, cpus_per_decode=0.5)
    assert share_of_cores(speeds, crowded, 2.0) == pytest.approx(0.8, abs=1e-3)
    assert share_of_cores(speeds, CPU, 4.0) == 0.0
    assert share_of_cores(speeds, replace(halves, embed_device="cuda"), 4.0) == 0.0
    assert share_of_cores(stage_speeds({"decode": 10.0}, counts, 4.0), halves, 4.0) == 0.0


@pytest.mark.parametrize(
    ("bottleneck", "workers", "num_cpus", "is_lite", "flag"),
    [
        ("fetch", CPU, 2, True, "--fetch.num-workers"),
        ("write", CPU, 2, True, "--milvus-uri http://"),
        ("write", CPU, 2, False, "--workers.num-write-workers 2"),
        ("decode", CPU, 8, True, "--workers.num-decode-workers 2"),
        ("decode", CPU, 2, True, "more cores or GPUs"),
        ("decode", GPU, 2, True, "--workers.decode dali"),
        ("embed", CPU, 8, True, "--workers.num-embed-workers 2"),
        ("embed", GPU, 2, True, "--batch-size"),
    ],
)
def test_the_advice_is_what_this_machine_can_still_give(
    bottleneck, workers, num_cpus, is_lite, flag
) -> None:
    assert advise(bottleneck, workers, num_cpus=num_cpus, is_lite=is_lite).startswith(flag)
