"""Stages on a real local Ray: rows fan out, batches come back, and errors keep their type."""

import logging
import os
import sys

import numpy as np
import psutil
import pytest
from ray import cloudpickle

from cluster.dataflow import Stage, WorkersDiedError, stream_dataflow
from cluster.ray_session import ray_session

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file


class Split:
    def __init__(self, *, num_parts: int) -> None:
        self.num_parts = num_parts

    def __call__(self, row):
        for part in range(self.num_parts):
            yield {"name": f"{row['name']}/{part}", "frames": bytes([part] * 4), "pid": os.getpid()}


class Group:
    """Says of each row how many it came with, twice."""

    def __call__(self, rows):
        for row in rows * 2:
            yield {
                "name": row["name"],
                "num": len(rows),
                "parts": len(row["parts"]),
                "vector": np.arange(2.0),
            }


class Deadly:
    """As a batch that is too large for the memory of any node."""

    def __call__(self, batch):
        if "video-3" in set(batch["name"]):
            os._exit(1)
        return batch


class Sum:
    def __init__(self, *, fails_on: str = "", broken: bool = False) -> None:
        if broken:
            raise FileNotFoundError("no bundle at /nowhere")
        self.fails_on = fails_on

    def __call__(self, batch):
        if self.fails_on in set(batch["name"]):
            raise ValueError(f"vector of {self.fails_on} has width 7")
        frames = batch.pop("frames")
        batch["vector"] = np.array([[sum(one), len(one)] for one in frames], np.float32)
        return batch


ROWS = [{"name": f"video-{i}"} for i in range(6)]


def split(num_parts: int = 5) -> Stage:
    arguments = {"num_parts": num_parts}
    return Stage(name="split", factory=Split, arguments=arguments, kind="rows", num_cpus=0.5)


def summed(**arguments) -> Stage:
    return Stage(name="sum", factory=Sum, arguments=arguments, num_cpus=0.5, batch_size=4)


def test_the_dataflow(tmp_path, monkeypatch) -> None:
    before = set(psutil.pids())
    others = logging.StreamHandler()
    monkeypatch.setattr(logging.getLogger("ray.data"), "handlers", [others])
    with ray_session(num_cpus=2, run_dir=tmp_path) as session:
        assert session.started_here
        assert session.num_nodes == 1
        batches = list(stream_dataflow(ROWS, [split(), summed()], result_batch_size=7))
        vectors = {
            name: tuple(vector)
            for batch in batches
            for name, vector in zip(batch["name"], batch["vector"], strict=True)
        }
        assert vectors == {f"video-{i}/{k}": (4.0 * k, 4.0) for i in range(6) for k in range(5)}
        assert {pid for batch in batches for pid in batch["pid"]} != {os.getpid()}

        with pytest.raises(ValueError, match=r"^vector of video-3/1 has width 7$"):
            list(stream_dataflow(ROWS, [split(), summed(fails_on="video-3/1")]))
        with pytest.raises(FileNotFoundError, match="no bundle at /nowhere"):
            list(stream_dataflow(ROWS, [split(), summed(broken=True)]))
        with pytest.raises(ValueError, match=r"need 99 CPU .* and Ray has 2"):
            list(stream_dataflow(ROWS, [Stage(name="wide", factory=Sum, num_cpus=99)]))
        with monkeypatch.context() as patch:
            patch.setattr("cluster.dataflow._MAX_TASK_RETRIES", 1)
            with pytest.raises(WorkersDiedError, match="some rows lost their worker 2 times"):
                list(stream_dataflow(ROWS, [Stage(name="deadly", factory=Deadly)]))
        rows = [{"name": f"{i}", "parts": ["x"] * (i % 3)} for i in range(7)]
        grouped = Stage(name="group", factory=Group, kind="groups", num_cpus=0.5, batch_size=3)
        (batch,) = stream_dataflow(rows, [grouped])
        assert sorted(batch["name"].tolist()) == sorted(2 * [row["name"] for row in rows])
        assert sorted(batch["num"].tolist()) in ([1] * 2 + [3] * 12, [2] * 8 + [3] * 6)
        assert batch["vector"].shape == (14, 2)
        parts = dict(zip(batch["name"].tolist(), batch["parts"].tolist(), strict=True))
        assert parts == {row["name"]: len(row["parts"]) for row in rows}

        with ray_session(run_dir=tmp_path) as inner:
            assert not inner.started_here
        assert sum(len(batch["name"]) for batch in stream_dataflow(ROWS, [split(2)])) == 12
    assert others.level == logging.NOTSET  # only Ray's own handlers are kept quiet
    mine = {process.pid for process in psutil.Process().children(recursive=True)}
    assert not (mine - before)
