"""A cluster as ray_cluster.yaml describes it, idle: no worker nodes. A run asks for one and waits, then works.

The cloud is emulated: real Ray processes here, and a node of the file's worker type that is added when the autoscaler's channel
holds a request.
"""

import json
import sys
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
from indexing.pipeline.workers import WorkerOptions, choose_workers, worker_bundle
from tests.support.faults.places import Subprogram
from training.configs import LaunchSettings, LoopConfig
from training.trainer.loop import TaskFactory
from training.trainer.ray_launch import fit_with_ray, ray_for

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file
CLUSTER = yaml.safe_load((Path(__file__).parents[2] / "ray_cluster.yaml").read_text())
# Answers a request as an autoscaler does: with a node of the worker type; and reports as one does.
CLOUD = """
import json, sys, threading, traceback
import ray
from ray._private import ray_constants
from ray.cluster_utils import Cluster
from ray.experimental import internal_kv

head, worker = (json.loads(text) for text in sys.argv[1:3])
# A node that gets no processor for a minute is busy, not dead.
patient = {"health_check_timeout_ms": 30_000, "health_check_failure_threshold": 60, "gcs_rpc_server_reconnect_timeout_s": 600}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": head["CPU"], "num_gpus": 0, "object_store_memory": 1 << 28, "_system_config": patient})
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
report = json.dumps({"autoscaler_report": {"active_nodes": {"head": 1}}})
internal_kv._internal_kv_put(ray_constants.DEBUG_AUTOSCALING_STATUS, report, overwrite=True)

def answer():
    channel = ray_constants.AUTOSCALER_RESOURCE_REQUEST_CHANNEL
    wanted = json.loads(internal_kv._internal_kv_get(channel) or b"[]")
    total = {name: sum(bundle.get(name, 0) for bundle in wanted) for name in worker}
    have = ray.cluster_resources()
    if any(amount > have.get(name, 0) for name, amount in total.items()):
        cluster.add_node(num_cpus=worker["CPU"], num_gpus=worker["GPU"], object_store_memory=1 << 28)

closed = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), closed.set()), daemon=True).start()
print(cluster.address, flush=True)
while not closed.wait(0.3):  # nodes are added by the main thread: Ray sets signal handlers
    try:
        answer()
    except Exception:  # on a busy machine a node may miss Ray's 30 s
        traceback.print_exc()
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


@pytest.fixture
def idle_cluster(tmp_path, monkeypatch):
    types = dict(CLUSTER["available_node_types"])
    head = types.pop(CLUSTER["head_node_type"])
    ((_, worker),) = types.items()
    assert worker["min_workers"] == 0
    texts = (json.dumps(node["resources"]) for node in (head, worker))
    cloud = Subprogram(CLOUD, *texts, log=tmp_path / "cloud.log")
    monkeypatch.setenv("RAY_ADDRESS", cloud.line)
    monkeypatch.setenv("TFCOVR_NODE_WAIT_S", "120")
    try:
        yield worker["resources"]
    finally:
        cloud.close()


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
