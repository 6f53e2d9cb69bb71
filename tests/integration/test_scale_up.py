"""A cluster as ray_cluster.yaml describes it, idle: no worker nodes. A run asks for one and waits, then works while nodes come and go.

The cloud is emulated: real Ray processes here, and a node of the file's worker type that is added when the autoscaler's channel
holds a request, or when the test says so.
"""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
import yaml
from ray import cloudpickle

from cluster.dataflow import Stage, stream_dataflow
from cluster.ray_session import ray_session, session_with
from indexing.pipeline.config import IndexConfig
from indexing.pipeline.index_archive import index_archive
from indexing.pipeline.workers import WorkerOptions, choose_workers, worker_bundle
from indexing.store.collection import open_collection
from tests.support.expected_vectors import expected_vectors
from tests.support.faults.places import Subprogram
from tests.support.ledgers import num_recorded
from tests.support.small_videos import write_archive
from training.configs import LaunchSettings, LoopConfig
from training.trainer.loop import TaskFactory
from training.trainer.ray_launch import fit_with_ray, ray_for

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file
CLUSTER = yaml.safe_load((Path(__file__).parents[2] / "ray_cluster.yaml").read_text())
# Answers a request as an autoscaler does: with a node of the worker type; and reports as one does. `add` adds one, `kill` kills the oldest.
CLOUD = """
import contextlib, json, os, queue, sys, threading, traceback
import psutil, ray
from ray._private import ray_constants
from ray.cluster_utils import Cluster
from ray.experimental import internal_kv

head, worker = (json.loads(text) for text in sys.argv[1:3])
# A node that gets no processor for half a minute is busy, not dead. One that was killed must be noticed before its tasks have been
# given to it too often.
patient = {"health_check_failure_threshold": 10, "gcs_rpc_server_reconnect_timeout_s": 600}
answers = os.fdopen(os.dup(1), "w")  # Ray prints, too
os.dup2(2, 1)

def patiently(start):  # on a busy machine a node may miss the 30 s that Ray gives it
    for attempt in range(6):
        before = set(psutil.Process().children(recursive=True))
        try:
            return start()
        except Exception:
            traceback.print_exc()
            for half_started in set(psutil.Process().children(recursive=True)) - before:
                with contextlib.suppress(psutil.NoSuchProcess):
                    half_started.kill()
    raise SystemExit("no node started")

options = {"num_cpus": head["CPU"], "num_gpus": 0, "object_store_memory": 1 << 28, "_system_config": patient}
cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=options))
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")

def report():  # again and again: the head's own monitor writes that it has no autoscaler
    said = json.dumps({"autoscaler_report": {"active_nodes": {"head": 1}}})
    internal_kv._internal_kv_put(ray_constants.DEBUG_AUTOSCALING_STATUS, said, overwrite=True)

report()

workers = []

def add():
    start = lambda: cluster.add_node(num_cpus=worker["CPU"], num_gpus=worker["GPU"], object_store_memory=1 << 28)
    workers.append(patiently(start))

def answer():
    report()
    channel = ray_constants.AUTOSCALER_RESOURCE_REQUEST_CHANNEL
    wanted = json.loads(internal_kv._internal_kv_get(channel) or b"[]")
    total = {name: sum(bundle.get(name, 0) for bundle in wanted) for name in worker}
    have = ray.cluster_resources()
    if any(amount > have.get(name, 0) for name, amount in total.items()):
        add()

said = queue.Queue()

def read():
    for line in sys.stdin:
        said.put(line.strip())
    said.put("end")

threading.Thread(target=read, daemon=True).start()
print(cluster.address, file=answers, flush=True)
word = ""
while word != "end":
    try:  # nodes are added by the main thread: Ray sets signal handlers
        word = said.get(timeout=0.3)
        if word == "add":
            add()
        if word == "kill":
            cluster.remove_node(workers.pop(0), allow_graceful=False)
        print(len(workers), file=answers, flush=True)
    except queue.Empty:
        answer()
ray.shutdown()
cluster.shutdown()
"""


class CountGpus:
    def __call__(self, batch):
        batch["gpus"] = np.full(len(batch["number"]), len(ray.get_gpu_ids()))
        return batch


@dataclass(frozen=True, kw_only=True)
class Line(TaskFactory):
    """Fits a slope; knows nothing of the project's models."""

    def build(self, world):
        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.slope = torch.nn.Parameter(torch.zeros(1))

            def forward(self, batch):
                return {"loss": ((self.slope * batch["x"] - 2 * batch["x"]) ** 2).mean()}

        class Task:
            module, num_examples, score_name = Model(), 8, "val_loss"

            def batches(self, epoch, steps):
                for numbers in steps:
                    yield {"x": torch.from_numpy(numbers).float()}

            def evaluate(self, world):
                return {"val_loss": (1.0, 1.0)}

        return Task()


@contextmanager
def cloud_with(worker: dict[str, int], log: Path, monkeypatch) -> Iterator[Subprogram]:
    head = CLUSTER["available_node_types"][CLUSTER["head_node_type"]]["resources"]
    cloud = Subprogram(CLOUD, json.dumps(head), json.dumps(worker), log=log)
    monkeypatch.setenv("RAY_ADDRESS", cloud.line)
    monkeypatch.setenv("TFCOVR_NODE_WAIT_S", "300")
    try:
        yield cloud
    finally:
        cloud.close()


@pytest.fixture
def idle_cluster(tmp_path, monkeypatch):
    types = dict(CLUSTER["available_node_types"])
    types.pop(CLUSTER["head_node_type"])
    ((_, worker),) = types.items()
    assert worker["min_workers"] == 0
    with cloud_with(worker["resources"], tmp_path / "cloud.log", monkeypatch):
        yield worker["resources"]


@pytest.mark.long  # three Ray nodes: a minute of two cores
def test_training_and_indexing_start_from_an_idle_cluster(
    idle_cluster, tmp_path, monkeypatch, capsys
):
    launch = LaunchSettings(num_workers=1, use_gpu=False, max_failures=0)
    with pytest.raises(ValueError, match="one node only"), ray_for(launch, tmp_path):
        pass  # the nodes that come do not share this folder; said before any is asked for
    monkeypatch.setattr(
        "training.trainer.ray_launch.require_shared", lambda *_args, **_others: None
    )
    with ray_session() as idle:
        assert (idle.num_cpus, idle.num_gpus, idle.can_grow) == (0, 0, True)
    loop = LoopConfig(num_epochs=1, batch_size=4, learning_rate=0.1, weight_decay=0.0)
    with ray_for(launch, tmp_path):
        fit_with_ray(Line(), loop, tmp_path, launch)
    assert (tmp_path / "checkpoints" / "last.pt").exists()
    assert "waiting for nodes: 0 of 1 CPU" in capsys.readouterr().err
    with ray_session() as session:
        session = session_with(session, [worker_bundle(WorkerOptions())])
        assert (session.num_cpus, session.num_gpus) == (idle_cluster["CPU"], idle_cluster["GPU"])
        workers = choose_workers(WorkerOptions(), session, is_lite=False)
        assert (workers.embed_device, workers.can_grow) == ("cuda", True)
        rows = [{"number": number} for number in range(6)]
        # Two nodes would hold all four: one is there, and one worker is enough to start.
        stage = Stage(
            name="gpus", factory=CountGpus, min_workers=1, max_workers=4, num_gpus=0.5, batch_size=2
        )
        batches = list(stream_dataflow(rows, [stage]))
    assert sorted(n for batch in batches for n in batch["number"]) == list(range(6))
    assert {n for batch in batches for n in batch["gpus"]} == {1}


@pytest.mark.long  # four Ray nodes: some minutes of two cores
def test_indexing_goes_on_while_nodes_come_and_are_killed(
    tmp_path, tiny_bundle, monkeypatch, capsys
):
    """From no worker to one, another is added, the first one is killed, a third is added: the collection is that of a machine alone."""
    # The nodes that come are this machine, and share its folders.
    monkeypatch.setattr("indexing.pipeline.stream.require_shared", lambda *_a, **_b: None)
    # The head has no CPUs: files are read by the nodes that come.
    monkeypatch.setattr("indexing.sources.content.hash_file", lambda path: pytest.fail(str(path)))
    num_videos, clips_per_video = 600, 4
    clips = write_archive(
        tmp_path / "videos", num_videos=num_videos, clips_per_video=clips_per_video
    )
    config = IndexConfig(
        bundle=tiny_bundle,
        clips=str(clips),
        milvus_uri=str(tmp_path / "milvus"),
        run_dir=tmp_path / "run",
        batch_size=1,
    )
    seen = []

    def let_nodes_come_and_go(cloud: Subprogram) -> None:
        for word in ("add", "kill", "add"):
            before = num_recorded(config.run_dir)
            while num_recorded(config.run_dir) <= before + 4 and not ended.wait(0.01):
                pass
            if not ended.is_set():
                seen.append((word, cloud.ask(word)))

    ended = threading.Event()
    with cloud_with({"CPU": 1, "GPU": 0}, tmp_path / "cloud.log", monkeypatch) as cloud:
        thread = threading.Thread(target=let_nodes_come_and_go, args=(cloud,))
        thread.start()
        try:
            summary = index_archive(config)
        finally:
            ended.set()
            thread.join()
    # How many nodes there are is also the autoscaler's to say: what waits asks it for more.
    assert [word for word, _ in seen] == ["add", "kill", "add"], seen
    assert "waiting for nodes: 0 of 1 CPU" in capsys.readouterr().err
    assert (summary.written, summary.dead, summary.missing) == (num_videos * clips_per_video, 0, 0)
    monkeypatch.undo()  # hashes here again
    expected = expected_vectors(tiny_bundle, clips)
    with open_collection(config.milvus_uri, config.collection) as collection:
        collection.check(encoder_id=summary.encoder_id)
        rows = {
            row["clip_key"]: row["embedding"] for row in collection.rows(("clip_key", "embedding"))
        }
        assert collection.count() == len(rows)
    assert rows.keys() == expected.keys()
    for key, vector_D in rows.items():
        np.testing.assert_allclose(vector_D, expected[key], atol=1e-5)
