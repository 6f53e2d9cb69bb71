import json
import statistics

import numpy as np
import pytest

from benchmarks.harness.record import (
    REPOSITORY,
    Ceiling,
    hardware_slug,
    read_records,
    summarize_samples,
    write_record,
)
from cluster.machine import Gpu, Machine


def machine(cpu: str, *gpus: str) -> Machine:
    return Machine(
        cpu=cpu,
        num_cores=2,
        memory_gib=8.0,
        gpus=tuple(Gpu(name=name, memory_gib=80, driver="1", num_nvdec=7) for name in gpus),
        python="3.11.2",
        system="Linux",
    )


def test_samples_leave_the_warm_up_out() -> None:
    values = [900.0, 800.0, 5.0, 1.0, 4.0, 2.0, 3.0]
    samples = summarize_samples(values, warmup=2)
    q25, q50, q75 = statistics.quantiles(values[2:], n=4, method="inclusive")
    assert (samples.p25, samples.median, samples.p75) == (q25, q50, q75)
    assert (samples.n, samples.warmup) == (5, 2)


def test_samples_that_are_all_warm_up_are_refused() -> None:
    with pytest.raises(ValueError, match="warmup is 3 of 3"):
        summarize_samples([1.0, 2.0, 3.0], warmup=3)


def test_a_record_is_found_again_with_all_it_says(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OUT", str(tmp_path))
    path = write_record(
        "encode",
        config={"batch_size": np.int64(8), "folder": tmp_path},
        metrics={"clips_per_s": summarize_samples([1.0, 2.0, 3.0], warmup=0)},
        ceiling=Ceiling(name="bf16 matmul", value=790.0, unit="TFLOP/s", fraction=0.5),
        excluded=["model load"],
        command="encode --fast",
    )
    (record,) = read_records(tmp_path)
    day = record["recorded_at"][:10].replace("-", "")
    commit = record["environment"]["git_commit"][:7]
    assert path.name == f"encode_{record['hardware']}_{day}_{commit}.json" == record["file"]
    assert record["config"] == {"batch_size": 8, "folder": f".../{tmp_path.name}"}
    assert record["metrics"]["clips_per_s"]["median"] == 2.0
    assert record["ceiling"]["fraction"] == 0.5
    assert record["command"] == "encode --fast"
    assert record["environment"]["packages"]["numpy"] == np.__version__
    assert record["environment"]["num_cores"] >= 1


def test_a_second_run_overwrites_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OUT", str(tmp_path))
    for value in (1, 2):
        write_record("twice", config={}, metrics={"value": value})
    assert [record["metrics"]["value"] for record in read_records(tmp_path)] == [1, 2]


def test_a_record_of_not_a_number_is_refused_and_leaves_no_file(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OUT", str(tmp_path))
    with pytest.raises(ValueError, match="nan"):
        write_record("broken", config={}, metrics={"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_record_is_named(tmp_path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"metrics": {}}))
    with pytest.raises(ValueError, match=r"x\.json: not a record, it has no benchmark, hardware"):
        read_records(tmp_path)


@pytest.mark.parametrize(
    ("described", "slug"),
    [
        (machine("AMD EPYC 9B14 96-Core Processor"), "amd-epyc-9b14-2c"),
        (machine("Intel(R) Xeon(R) CPU @ 2.20GHz"), "intel-xeon-2c"),
        (machine("any", "NVIDIA H200"), "nvidia-h200"),
        (machine("any", "Tesla T4", "Tesla T4"), "tesla-t4-x2"),
    ],
)
def test_hardware_names_are_file_names(described: Machine, slug: str) -> None:
    assert hardware_slug(described) == slug


def test_the_command_names_the_module_and_no_folder_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("OUT", str(tmp_path))
    script = str(REPOSITORY / "benchmarks" / "throughput" / "encode.py")
    monkeypatch.setattr("sys.argv", [script, "--presets", "aim_small"])
    path = write_record("typed", config={}, metrics={"x": 1.0})
    assert (
        json.loads(path.read_text())["command"]
        == "python -m benchmarks.throughput.encode --presets aim_small"
    )


def test_no_folder_of_the_machine_comes_into_a_record(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OUT", str(tmp_path))
    config = {"work_dir": tmp_path / "here", "clips": "runs/clips.parquet", "ratio": "1 / 2"}
    path = write_record("x", config=config, metrics={"m": 1}, command=f"do {tmp_path}/there --now")
    assert str(tmp_path) not in path.read_text()
    record = json.loads(path.read_text())
    assert record["command"] == "do .../there --now"
    assert record["config"] == config | {"work_dir": ".../here"}
