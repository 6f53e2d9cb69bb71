"""SIGKILL to the driver, to its process group, to a Ray worker: the losses of the run are those of one that nothing disturbed."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from training.vectors.compute import VectorsConfig, compute_vectors

pytestmark = pytest.mark.timeout(1200)
ROOT = Path(__file__).resolve().parents[3]
NUM_EPOCHS = 40


@dataclass(frozen=True)
class Stage:
    """The command of a stage but for its run folder, and a run of it that nothing disturbed."""

    options: tuple[str, ...]
    reference: Path

    def command(self, run_dir: Path, *extra: str) -> list[str]:
        return command(self.options, run_dir, *extra)


def command(options: tuple[str, ...], run_dir: Path, *extra: str) -> list[str]:
    return [
        *(sys.executable, "training/run.py", "--quiet", "--run-dir", str(run_dir), *options),
        *("--config.loop.num-epochs", str(NUM_EPOCHS), "--config.loop.num-threads", "1"),
        *("--config.loop.batch-size", "4", *extra),
    ]


STARTED: list[subprocess.Popen] = []
PATIENCE_S = 500  # for a machine that has much else to do; a quiet one needs a few seconds


@pytest.fixture(autouse=True)
def nothing_is_left_running():
    yield
    for process in STARTED:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    STARTED.clear()


def start(arguments: list[str]) -> subprocess.Popen:
    process = subprocess.Popen(
        arguments,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "RAY_DISABLE_IMPORT_WARNING": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    STARTED.append(process)
    return process


def finish(arguments: list[str]) -> None:
    process = start(arguments)
    _out, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors[-2000:]


def lines(run_dir: Path) -> list[dict]:
    path = run_dir / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def wait_for_epoch(process: subprocess.Popen, run_dir: Path, epoch: int) -> None:
    """Past the epoch's checkpoint, in the middle of a later one."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if any(line.get("epoch", 0) >= epoch for line in lines(run_dir)):
            assert process.poll() is None, "the run was over before it could be killed"
            return
        assert process.poll() is None, process.stderr and process.stderr.read()[-2000:]
        time.sleep(0.01)
    raise AssertionError("no progress")


def kill_group(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def kill_driver(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def kill_worker(process: subprocess.Popen) -> None:
    """The driver is not told; Ray Train starts the worker again."""
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "RayTrainWorker" in " ".join(child.cmdline())
    ]
    assert workers
    workers[0].kill()


def assert_same_run(run_dir: Path, reference: Path) -> None:
    assert (run_dir / "result.json").exists()
    found, expected = lines(run_dir), lines(reference)
    assert [(x["step"], x.get("epoch")) for x in found] == [
        (x["step"], x.get("epoch")) for x in expected
    ]
    for name in ("loss", "val_top1", "val_map@50"):
        assert [x[name] for x in found if name in x] == pytest.approx(
            [x[name] for x in expected if name in x], rel=1e-6
        )


@pytest.fixture(scope="module")
def stages(archive, tmp_path_factory) -> dict[str, Stage]:
    folder = tmp_path_factory.mktemp("plain")
    clips = archive / "clips.parquet"
    first = (
        *("--recipe", "demo_actions_tiny", "--clips", str(clips)),
        *("--frame-vectors-dir", str(archive / "frame_vectors")),
        *("--config.attributes", "first", "last"),
    )
    finish(command(first, folder / "stage1", "--no-ray"))
    bundle, vectors = folder / "stage1" / "bundle", folder / "vectors.parquet"
    compute_vectors(VectorsConfig(clips=clips, bundle=bundle, out=vectors))
    second = (
        *("--recipe", "demo_fusion_tiny", "--vectors", str(vectors), "--init", str(bundle)),
        *("--triplets", str(archive / "triplets.parquet")),
    )
    finish(command(second, folder / "stage2", "--no-ray"))
    return {name: Stage(o, folder / name) for name, o in (("stage1", first), ("stage2", second))}


@pytest.mark.parametrize("kill", [kill_driver, kill_group])
@pytest.mark.parametrize("name", ["stage1", "stage2"])
def test_a_killed_plain_run_goes_on(name, kill, stages, tmp_path) -> None:
    arguments = stages[name].command(tmp_path / "run", "--no-ray")
    process = start(arguments)
    wait_for_epoch(process, tmp_path / "run", 3)
    kill(process)
    assert not (tmp_path / "run" / "result.json").exists()
    finish(arguments)
    assert_same_run(tmp_path / "run", stages[name].reference)


@pytest.mark.long
@pytest.mark.parametrize(("name", "kill"), [("stage1", kill_driver), ("stage2", kill_group)])
def test_a_killed_driver_of_a_ray_run_goes_on(name, kill, stages, tmp_path) -> None:
    """One worker has the very numbers of the plain loop; nothing of the first start is left running."""
    arguments = stages[name].command(tmp_path / "run", "--num-workers", "1")
    process = start(arguments)
    wait_for_epoch(process, tmp_path / "run", 3)
    before = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    kill(process)
    finish(arguments)
    assert_same_run(tmp_path / "run", stages[name].reference)
    _gone, alive = psutil.wait_procs(before, timeout=10)
    assert [x for x in alive if x.status() != psutil.STATUS_ZOMBIE] == []


def test_a_killed_ray_worker_is_replaced(stages, tmp_path) -> None:
    process = start(stages["stage1"].command(tmp_path / "run", "--num-workers", "1"))
    wait_for_epoch(process, tmp_path / "run", 3)
    kill_worker(process)
    _out, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors[-2000:]
    assert_same_run(tmp_path / "run", stages["stage1"].reference)
