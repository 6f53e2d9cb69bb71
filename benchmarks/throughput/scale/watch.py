"""A watched folder: how soon a file can be found after it was closed, what an idle watch costs, and seeded histories of files.

The watch is the command itself, in a process of its own, with Milvus as a server of this machine.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from encoders.bundle.card import read_card
from indexing.store import dev_server
from indexing.store.collection import ClipCollection, open_collection
from indexing.store.endpoint import serve_milvus

_GIVE_UP_S = 300.0
_POLL_S = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Watch a folder into which videos are copied, leave it alone, and run histories."""

    bundle: Path = Path("runs/demo/stage2/bundle")
    """Bundle whose encoder makes the vectors."""
    videos: Path = Path("runs/demo/archive")
    """Folder from below which videos are copied."""
    num_files: int = 60
    """Files that are copied, one after the other."""
    pause_s: float = 3.0
    """Between two of them, at most."""
    idle_s: float = 120.0
    """For which nothing happens, with all the files in the folder."""
    histories: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_files < 20:
            raise ValueError(f"num_files is {self.num_files}; a p95 needs at least 20")


def measure(config: Config) -> dict[str, Any]:
    """Seconds from a closed file to its row in a search; share of a core that an idle watch takes; histories, and those that ended wrong."""
    with tempfile.TemporaryDirectory() as folder:
        figures = _measure_watch(config, Path(folder))
    return figures | _measure_histories(config)


def _measure_watch(config: Config, folder: Path) -> dict[str, Any]:
    sources = sorted(path for path in config.videos.rglob("*.mp4") if path.is_file())
    if not sources:
        raise ValueError(f"videos is {str(config.videos)!r}, which has no .mp4 files")
    (folder / "videos").mkdir()
    uri = dev_server.start(folder / "server")
    try:
        with _watching(config, folder, uri) as process, open_collection(uri, "clips") as rows:
            _wait_for(rows, config)
            delays_s = _delays(config, sources, folder / "videos", rows)
            time.sleep(10)
            share = _cpu_share(process, config.idle_s)
    finally:
        dev_server.stop(folder / "server")
    low, middle, high = np.percentile(delays_s, [5, 50, 95])
    return {
        "watch_files": len(delays_s),
        "watch_p5_s": float(low),
        "watch_median_s": float(middle),
        "watch_p95_s": float(high),
        "watch_idle_cpu_share": share,
        "load_average": os.getloadavg()[0],
    }


@contextmanager
def _watching(config: Config, folder: Path, uri: str) -> Iterator[psutil.Process]:
    command = [
        *(sys.executable, "-m", "tfcovr", "watch", str(folder / "videos")),
        *("--bundle", str(config.bundle), "--milvus-uri", uri, "--run-dir", str(folder / "run")),
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _wait_for(collection: ClipCollection, config: Config) -> None:
    """Until the watch has made its collection, and loaded it."""
    give_up_s = time.monotonic() + _GIVE_UP_S
    while not collection.exists():
        if time.monotonic() > give_up_s:
            raise TimeoutError("the watch made no collection")
        time.sleep(1)
    collection.check(encoder_id=read_card(config.bundle).encoder_id)


def _delays(
    config: Config, sources: list[Path], folder: Path, collection: ClipCollection
) -> list[float]:
    """Each file is copied as `cp` does it; a search with its own name as a filter tells when it is there."""
    draw, delays_s = random.Random(config.seed), []
    query_D = np.ones(read_card(config.bundle).embedding_dim, np.float32)
    for number in range(config.num_files):
        name = f"{number:04d}.mp4"
        shutil.copyfile(draw.choice(sources), folder / name)
        closed_s = time.monotonic()
        while not collection.nearest(query_D, limit=1, condition=f'clip_id == "{name}"'):
            if time.monotonic() > closed_s + _GIVE_UP_S:
                raise TimeoutError(f"{name} was not found after {_GIVE_UP_S:g} s")
            time.sleep(_POLL_S)
        delays_s.append(time.monotonic() - closed_s)
        time.sleep(draw.uniform(0, config.pause_s))
    return delays_s


def _cpu_share(process: psutil.Process, seconds: float) -> float:
    """Of one core, of the process and its children."""

    def cpu_s() -> float:
        times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
        return sum(one.user + one.system for one in times)

    before_s, started_s = cpu_s(), time.monotonic()
    time.sleep(seconds)
    return (cpu_s() - before_s) / (time.monotonic() - started_s)


def _measure_histories(config: Config) -> dict[str, Any]:
    # Here, since hypothesis comes with the packages of the tests.
    from benchmarks.throughput.scale.watch_histories import History, run_histories

    with tempfile.TemporaryDirectory() as folder, serve_milvus(f"{folder}/milvus"):
        run_histories(config.histories, f"{folder}/milvus", keeps=True)
    return {
        "histories": History.num_run,
        "histories_wrong": len(History.wrong),
        "wrong": History.wrong[:20],
    }
