"""`ray job submit --working-dir . -- python training/run.py` against a Ray of its own with one node or two, as on a cluster."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from benchmarks.studies.synthetic_data import LearnableSize, make_learnable_data, write_released
from encoders.clips import Clip, write_clips
from tfcovr import run_command

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
RAY = str(BIN / "ray")
MAX_UPLOAD_BYTES = 30e6


@contextmanager
def short_folder():
    """The paths of Ray's sockets lie below it, and they may have 107 characters."""
    folder = tempfile.mkdtemp(prefix="rj", dir="/tmp")
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def ray_temp():
    with short_folder() as folder:
        yield folder


@pytest.fixture
def environment() -> dict[str, str]:
    """A token of its own: no other Ray of this machine is reached, and none reaches this one."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    # The nodes' `python` is the one that has the packages, as in a cluster's image.
    inherited["PATH"] = f"{BIN}{os.pathsep}{inherited['PATH']}"
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    # A busy machine starts slowly: the raylet, and the agent that takes jobs.
    patience = {
        "RAY_raylet_start_wait_time_s": "120",
        "RAY_agent_register_timeout_ms": "120000",
    }
    return inherited | token | patience | {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@pytest.fixture
def ports() -> list[int]:
    """Every port is its own: another Ray may run beside this one. Of the GCS, the dashboard, the agent."""
    return free_ports(3)


@pytest.fixture
def job_server(ray_temp: Path, environment, ports):
    """A head node with its job server."""
    gcs, dashboard, agent = ports
    options = {
        "port": gcs,
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "dashboard-host": "127.0.0.1",
        "include-dashboard": "true",
        "temp-dir": ray_temp,
    }
    with running_node(["--head"], options, environment, ray_temp / "head.log") as head:
        wait_until_it_answers(dashboard, head, ray_temp / "head.log")
        yield f"http://127.0.0.1:{dashboard}"


@pytest.fixture
def second_node(job_server, environment, ports):
    """A raylet that joins the head, with a folder of its own, as on another machine."""
    (agent,) = free_ports(1)
    with short_folder() as folder, ExitStack() as stack:
        options = {
            "address": f"127.0.0.1:{ports[0]}",
            "dashboard-agent-listen-port": agent,
            "temp-dir": folder,
        }
        log = folder / "node.log"
        node = stack.enter_context(running_node([], options, environment, log))
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in log.read_text():
            assert node.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield


@contextmanager
def running_node(flags: list[str], options: dict[str, object], environment, log_path: Path):
    """`ray start --block` with two CPUs, and the end of all its processes."""
    shared = {
        "node-ip-address": "127.0.0.1",
        "num-cpus": 2,
        "object-store-memory": 200_000_000,
    }
    arguments = [f"--{name}={value}" for name, value in (shared | options).items()]
    with log_path.open("w") as log:
        node = subprocess.Popen(
            [RAY, "start", "--block", *flags, *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        servers = psutil.Process(node.pid)
        try:
            yield node
        finally:
            everything = [servers]
            with suppress(psutil.NoSuchProcess):
                everything += servers.children(recursive=True)
            node.terminate()
            _gone, alive = psutil.wait_procs(everything, timeout=8)
            for process in alive:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            node.wait()


def wait_until_it_answers(port: int, head: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and head.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.5)
    pytest.fail(f"the head node did not come up: {log.read_text()}")


def write_archive(folder: Path) -> Path:
    """Eight clips of two labels: a bright block moves right, or left."""
    clips = []
    for number in range(8):
        label = "105b" if number % 2 else "205b"
        path = folder / f"{number}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            for step in range(12):
                picture = np.full((64, 64, 3), 40 + number, np.uint8)
                left = 4 * (step if label == "105b" else 11 - step)
                picture[20:40, left : left + 16] = 220
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        attributes = {"take_off": "back", "somersaults": "2.5", "twists": "0", "position": "pike"}
        clips.append(
            Clip(
                clip_id=path.stem,
                video_uri=str(path),
                label=label,
                split="val" if number >= 6 else "train",
                attributes=attributes,
            )
        )
    write_clips(folder / "clips.parquet", clips)
    return folder / "clips.parquet"


def submit(server: str, command: list[str], environment: dict[str, str]) -> str:
    """The job's output; asked again while the server has no agent yet."""
    deadline = time.monotonic() + 90
    while True:
        result = subprocess.run(
            [
                RAY,
                *("job", "submit", "--address", server, "--working-dir", ".", "--", *command),
            ],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        output = result.stdout + result.stderr
        if "No available agent" in output and time.monotonic() < deadline:
            time.sleep(1)
            continue
        assert result.returncode == 0, output[-4000:]
        return output


def test_submitted_jobs_train_and_index_from_the_uploaded_checkout(
    tmp_path, ray_temp, job_server, environment
) -> None:
    clips = write_archive(tmp_path)
    run_dir = tmp_path / "run"
    options = ["--config.loop.num-epochs", "1", "--config.loop.batch-size", "2", "--quiet"]
    output = submit(
        job_server,
        [
            *("python", "training/run.py", "--recipe", "demo_actions_tiny"),
            *("--clips", str(clips), "--run-dir", str(run_dir), *options),
        ],
        environment,
    )
    assert "succeeded" in output
    result = json.loads((run_dir / "result.json").read_text())
    assert (run_dir / result["bundle"] / "card.json").exists()
    steps = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert sum("loss" in step for step in steps) == 3

    (uploaded,) = [
        path
        for path in (ray_temp / "session_latest").glob("runtime_resources/working_dir_files/*")
        if path.is_dir()
    ]
    assert (uploaded / "training" / "run.py").exists()
    assert not [name for name in (".git", ".venv", "runs") if (uploaded / name).exists()]
    sizes = [path.stat().st_size for path in uploaded.rglob("*") if path.is_file()]
    assert sum(sizes) < MAX_UPLOAD_BYTES

    bundle = run_dir / result["bundle"]
    exported = [sys.executable, "-m", "tfcovr", "export", "--bundle", str(bundle)]
    subprocess.run([*exported, "--clips", str(clips)], cwd=ROOT, env=environment, check=True)
    place = ["--clips", str(clips), "--milvus-uri", str(tmp_path / "milvus")]
    place += ["--bundle", str(bundle), "--run-dir", str(tmp_path / "index")]
    submit(job_server, ["python", "-m", "tfcovr", "index", *place], environment)
    summary = json.loads((tmp_path / "index" / "index_summary.json").read_text())
    assert (summary["written"], summary["dead"]) == (8, 0)
    assert run_command("verify", place) == 0


@pytest.mark.long  # two Ray nodes on two cores: minutes
def test_two_nodes_train_and_evaluate_released_data(
    tmp_path, job_server, second_node, environment
) -> None:
    """Two workers of two CPUs each: more than either node has, so both nodes work."""
    size = LearnableSize(num_clips=300, num_triplets=160, num_actions=3, vector_dim=16)
    write_released(tmp_path / "data", make_learnable_data(size))
    run_dir = tmp_path / "run"
    widths = ["--config.projection-dim", "32", "--config.hidden-dim", "32"]
    text = ["--config.text", "packaged:all-MiniLM-L6-v2", "--config.no-train-text"]
    loop = ["--config.loop.num-epochs", "1", "--config.loop.batch-size", "32", "--quiet"]
    output = submit(
        job_server,
        [
            *("python", "training/run.py", "--recipe", "tfcovr_base"),
            *("--data", str(tmp_path / "data"), "--run-dir", str(run_dir)),
            *("--num-workers", "2", "--cpus-per-worker", "2", *widths, *text, *loop),
        ],
        environment,
    )
    assert "clip + edit text" in output
    assert "27.22" in output
    metrics = json.loads((run_dir / "evaluate" / "metrics.json").read_text())
    assert {row["name"] for row in metrics["rows"]} == {"composed", "raw"}
    steps = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert sum("loss" in step for step in steps) == 128 // 32
