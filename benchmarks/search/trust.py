"""What hostile requests and floods do to `tfcovr serve`: what they get, and what a second client notices meanwhile.

`python -m benchmarks trust-service --work-dir runs/trust`. The archive is small and made here: a few hundred clips in Milvus Lite, 48
that take long to trim, and one large file.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.record import REPOSITORY
from benchmarks.search.floods import FLOODS
from benchmarks.search.hostile import try_all
from benchmarks.search.hostile_bodies import all_hostile
from benchmarks.search.quality import send_hostile
from benchmarks.search.scale import DIM, make_bundle, say
from benchmarks.search.service import TOKEN, Service, running_service

_NUM_CLIPS = 300
_NUM_HEAVY = 48
_HEAVY_SHAPE = (2176, 4096, 3)
_LARGE_BYTES = 60 << 20
_SECOND_CLIENT = ("127.0.0.2", 0)
_NORMAL_WITHIN_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Measure what hostile requests and floods do to the service."""

    work_dir: Path
    """Folder of the archive, which is made once, and of the logs."""
    flood_s: float = 15.0
    """Duration of each flood."""
    floods: tuple[str, ...] = tuple(FLOODS)
    """Names of the floods to run."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.floods) - FLOODS.keys())
        if unknown:
            raise ValueError(f"floods has {unknown}; choose from {', '.join(FLOODS)}")
        if self.flood_s <= 0:
            raise ValueError(f"flood_s is {self.flood_s}; it must be above 0")


def measure(config: Config) -> dict[str, Any]:
    """All figures."""
    work_dir = config.work_dir.resolve()
    bundle_dir = make_bundle(work_dir / "bundle", widths="small")
    milvus_dir = make_archive(work_dir, bundle_dir)
    options = ["--bundle", str(bundle_dir), "--milvus-uri", str(milvus_dir), "--allowed-hosts", "127.0.0.1", "localhost"]  # fmt: skip
    with running_service(options, log_path=work_dir / "service.log", requests_per_s=50) as service:
        say("normal")
        normal = _watched(service, lambda: time.sleep(config.flood_s))
        rows = {name: _flooded(service, name, config.flood_s, normal) for name in config.floods}
    fast = "1e6"  # the rate limit would answer in place of what is tried
    with running_service(
        options, log_path=work_dir / "service.log", requests_per_s=fast
    ) as service:
        say("hostile requests")
        requests = all_hostile("clip-0")
        address = f"http://127.0.0.1:{service.port}"
        succeeded = try_all(lambda request: send_hostile(address, request), requests)
    if succeeded:
        say(f"succeeded: {succeeded}")
    return {
        "hostile_tried": len(requests),
        "hostile_succeeded": len(succeeded),
        "floods": len(rows),
        "flood_p99_s": max(row["search_p99_s"] for row in rows.values()),
        "healthz_p99_ms": max(row["healthz_p99_ms"] for row in rows.values()),
        "flood_memory_ratio": max(row["memory_ratio"] for row in rows.values()),
        "flood_recovery_s": max(row["recovery_s"] for row in rows.values()),
        "flood_searches_failed": sum(row["searches_failed"] for row in rows.values()),
        "normal_search_p99_s": normal.search_p99_s(),
        "normal_healthz_p99_ms": normal.healthz_p99_ms(),
        "by_flood": rows,
    }


def make_archive(folder: Path, bundle_dir: Path) -> Path:
    """The Milvus Lite folder, made where it is missing."""
    from benchmarks.dives.video import write_video
    from encoders.bundle.card import read_card
    from indexing.store.collection import open_collection

    milvus_dir = folder / "milvus"
    if (folder / "made").exists():
        return milvus_dir
    say("archive")
    rng = np.random.default_rng(0)
    small, heavy, large = (folder / f"{name}.mp4" for name in ("small", "heavy", "large"))
    write_video(small, [rng.integers(0, 255, (25, 64, 64, 3), np.uint8)], codec="h264")
    noise = rng.integers(0, 255, _HEAVY_SHAPE, np.uint8)
    write_video(heavy, (np.roll(noise, 16 * number, axis=1)[None] for number in range(150)), codec="h264")  # fmt: skip
    size = _LARGE_BYTES.to_bytes(4, "big")  # a box of free space behind the video
    large.write_bytes(small.read_bytes() + size + b"free" + bytes(_LARGE_BYTES - 8))
    names = [(f"clip-{n}", small, 1.0) for n in range(_NUM_CLIPS)]
    names += [(f"heavy-{n}", heavy, 5.0 + n / 100) for n in range(_NUM_HEAVY)] + [("large", large, 1.0)]  # fmt: skip
    card = read_card(bundle_dir)
    vectors = rng.normal(size=(len(names), DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [
        {
            "clip_key": f"{n:032x}", "clip_id": clip_id, "video_uri": str(path), "label": f"label-{n % 300:03d}", "split": "test", "backend": "onnx",
            "precision": "float32", "start_s": 0.0, "end_s": end_s, "attributes": {"twists": str(n % 4)}, "embedding": vectors[n].tolist(),
        }
        for n, (clip_id, path, end_s) in enumerate(names)
    ]  # fmt: skip
    with open_collection(str(milvus_dir), "clips") as collection:
        collection.create_or_check(encoder_id=card.encoder_id, embedding_dim=card.embedding_dim)
        collection.upsert(rows)
        collection.flush()
    (folder / "made").touch()
    return milvus_dir


@dataclass(kw_only=True, slots=True)
class Watch:
    """What a second client saw: seconds of searches and of /healthz, and the memory of the service."""

    searches_s: list[float] = field(default_factory=list)
    healthz_s: list[float] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)
    num_failed: int = 0

    def search_p99_s(self) -> float:
        """Of the searches; one that failed counts as its time too."""
        return float(np.percentile(self.searches_s, 99))

    def healthz_p99_ms(self) -> float:
        """Of /healthz."""
        return 1000 * float(np.percentile(self.healthz_s, 99))


def _flooded(service: Service, name: str, seconds: float, normal: Watch) -> dict[str, Any]:
    say(name)
    num_requests = 0

    def run() -> None:
        nonlocal num_requests
        command = [sys.executable, "-m", "benchmarks.search.floods", name, "--port", str(service.port), "--seconds", str(seconds)]  # fmt: skip
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        num_requests = int(done.stdout)

    watch = _watched(service, run)
    row = {
        "requests": num_requests,
        "search_p99_s": watch.search_p99_s(),
        "healthz_p99_ms": watch.healthz_p99_ms(),
        "searches": len(watch.searches_s),
        "searches_failed": watch.num_failed,
        "memory_ratio": max(watch.memory_mib) / normal.memory_mib[0],
        "recovery_s": _recovery_s(service, normal),
    }
    say(json.dumps(row))
    return row


def _watched(service: Service, run: Callable[[], object]) -> Watch:
    """Search and ask for /healthz as a second client while something runs."""
    watch, ended = Watch(), threading.Event()
    replicas = service.replicas()  # looked up once: that takes longer than what is timed

    def search() -> None:
        for number in _until(ended):
            start_s = time.perf_counter()
            watch.num_failed += not _ask(service, number)
            watch.searches_s.append(time.perf_counter() - start_s)

    def health() -> None:
        for _ in _until(ended):
            start_s = time.perf_counter()
            with _connection(service) as connection:
                connection.request("GET", "/healthz")
                assert connection.getresponse().read() == b'{"status":"ok"}'
            watch.healthz_s.append(time.perf_counter() - start_s)
            watch.memory_mib.append(sum(replica.memory_info().rss for replica in replicas) / 2**20)

    threads = [threading.Thread(target=work) for work in (search, health)]
    for thread in threads:
        thread.start()
    try:
        run()
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    return watch


def _recovery_s(service: Service, normal: Watch) -> float:
    """Until three searches in a row were about as fast as before the flood."""
    start_s, good = time.monotonic(), 0
    limit_s = max(3 * normal.search_p99_s(), 0.2)
    while time.monotonic() < start_s + _NORMAL_WITHIN_S:
        before_s = time.perf_counter()
        is_good = _ask(service, 10**6 + good) and time.perf_counter() - before_s <= limit_s
        good = good + 1 if is_good else 0
        if good == 3:
            return time.monotonic() - start_s
    return _NORMAL_WITHIN_S


def _until(ended: threading.Event) -> Iterator[int]:
    number = 0
    while not ended.wait(0.05):
        yield number
        number += 1


def _ask(service: Service, number: int) -> bool:
    """Whether a search that no cache answers was answered."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {TOKEN}"}
    query = {"clip": f"clip-{number % _NUM_CLIPS}", "edits": [f"with {number} somersaults"]}
    try:
        with _connection(service) as connection:
            connection.request("POST", "/v1/search", json.dumps(query), headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status == 200
    except (OSError, http.client.HTTPException):
        return False


@contextmanager
def _connection(service: Service) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(
        "127.0.0.1", service.port, timeout=30, source_address=_SECOND_CLIENT
    )
    try:
        yield connection
    finally:
        connection.close()
