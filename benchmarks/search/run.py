"""The search benchmark: speed, steadiness and honesty of composed queries in one record.

Speed and load: 200,000 vectors in a Milvus server, asked through `tfcovr serve` and in process. Quality: an indexed archive such as
the demo's. The work folder keeps the server's data and the index, so that they are made once; the rest is measured anew.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from benchmarks.harness.record import capture_environment, write_record
from benchmarks.search.latency import latency
from benchmarks.search.load import Queries, at_rate, closed_loop, recovery_s, without_milvus
from benchmarks.search.quality import measure_quality
from benchmarks.search.scale import COLLECTION, Mixture, clip_id, fill, make_bundle, say, tuned_ef
from benchmarks.search.service import Service, running_service
from cluster.processes import reap_orphans, track_child_processes
from cluster.storage import write_atomic
from indexing.search.client import SearchClient, SearchOptions
from indexing.store.client import QUERYING
from indexing.store.collection import open_collection
from indexing.store.dev_server import crash, start, stop

_NUM_TUNING = 200
Part = Literal["setup", "speed", "load", "outage", "quality"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchBenchmark:
    """Measure searching: speed and load at scale, quality on the demo's archive.

    Example: python -m benchmarks.search.run --demo-dir runs/demo --work-dir runs/search --record
    """

    demo_dir: Path
    """A finished run of `make demo`; its Milvus Lite folder must not be open elsewhere."""
    work_dir: Path
    """The server's data, the bundle and the logs; 3 GB."""
    num_vectors: int = 200_000
    min_recall: float = 0.98
    """Of the 10 nearest; ef is the smallest that reaches it."""
    fusion: Literal["paper", "small"] = "paper"
    """Widths of the fusion that is asked."""
    num_queries: int = 200
    """Of each series of one client, and of each part of quality."""
    num_clients: int = 8
    load_s: float = 30.0
    """Of the series of several clients."""
    hold_minutes: float = 10.0
    """How long 80 % of the highest rate is held."""
    threads: int = 1
    """CPU threads of the service's encoder."""
    parts: tuple[Part, ...] = ("speed", "load", "outage", "quality")
    """`setup` alone fills the archive and builds its index, which needs no quiet machine; the others do it where it is not done."""
    record: bool = False
    """Write the record; for a quiet machine."""

    def __post_init__(self) -> None:
        if self.record and not set(self.parts) >= set(get_args(Part)) - {"setup"}:
            raise ValueError(f"parts is {self.parts}; a record needs all but setup")


def run(config: SearchBenchmark) -> dict[str, Any]:
    """All figures; parts that an earlier run of the same commit and settings finished are not measured again."""
    kept = _Kept(config)
    at_scale(config, kept)
    if "quality" in config.parts:
        say("quality")
        kept.part("quality", lambda: _quality(config))
    return kept.figures


class _Kept:
    """Figures by part, each part in a file of its own as soon as it is measured."""

    def __init__(self, config: SearchBenchmark) -> None:
        settings = {
            name: str(v) for name, v in asdict(config).items() if name not in ("parts", "record")
        }
        self._of = settings | {"commit": capture_environment()["git_commit"]}
        self._folder = config.work_dir / "parts"
        self.figures: dict[str, Any] = {}

    def has(self, name: str) -> bool:
        """Whether the part is done."""
        path = self._folder / f"{name}.json"
        return path.exists() and json.loads(path.read_text())["of"] == self._of

    def part(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Read or measured."""
        path = self._folder / f"{name}.json"
        if self.has(name):
            say(f"{name} is done: {path}")
            found = json.loads(path.read_text())["figures"]
        else:
            found = measure()
            write_atomic(path, json.dumps({"of": self._of, "figures": found}))
        self.figures |= found
        return found


def _quality(config: SearchBenchmark) -> dict[str, Any]:
    return measure_quality(
        config.demo_dir / "stage2" / "bundle",
        str(config.demo_dir / "milvus"),
        config.demo_dir / "triplets.parquet",
        num_queries=config.num_queries,
        out_dir=config.work_dir,
    )


def at_scale(config: SearchBenchmark, kept: _Kept) -> None:
    """Speed and load of the large archive; its server ends with the block."""
    work_dir = config.work_dir
    wanted = [name for name in ("setup", "speed", "load", "outage") if name in config.parts]
    if all(kept.has(name) for name in wanted):
        for name in ("setup", "tuning", *wanted):
            if kept.has(name):
                kept.part(name, dict)
        return
    mixture = Mixture(num_vectors=config.num_vectors)
    server_dir = work_dir / "milvus-server"
    with ExitStack() as stack:
        say("Milvus")
        uri = start(server_dir)
        stack.callback(stop, server_dir)
        bundle_dir = make_bundle(work_dir / f"bundle-{config.fusion}", widths=config.fusion)
        with open_collection(uri, COLLECTION) as collection:
            found = fill(collection, mixture, bundle_dir, work_dir / "scale.json")
        kept.part("setup", lambda: found)
        if set(wanted) <= {"setup"}:
            return
        tuned = kept.part("tuning", lambda: tune(config, uri, bundle_dir, mixture))
        call_options = replace(QUERYING, ef=tuned["ef"])
        options = ["--bundle", str(bundle_dir), "--milvus-uri", uri, "--collection", COLLECTION, "--ef", str(tuned["ef"]), "--threads-per-replica", str(config.threads)]  # fmt: skip
        say("service")
        service = stack.enter_context(running_service(options, log_path=work_dir / "service.log"))
        clips = [clip_id(number) for number in range(config.num_vectors)]
        queries = Queries(clips)  # one for all series: no text comes twice to one service
        if "speed" in wanted:
            say("one client")
            settings = SearchOptions(
                num_threads=config.threads, files=False, call_options=call_options
            )
            with SearchClient(uri, COLLECTION, bundle_dir, options=settings) as client:
                kept.part(
                    "speed", lambda: latency(client, service, queries, count=config.num_queries)
                )
        if "load" in wanted:
            kept.part("load", lambda: load(config, service, queries))
        if "outage" in wanted:
            say("Milvus is killed")
            port = int(uri.rpartition(":")[2])
            kept.part("outage", lambda: without_milvus(
                service, queries, kill=lambda: crash(server_dir), start=lambda: start(server_dir, port),
            ))  # fmt: skip


def tune(config: SearchBenchmark, uri: str, bundle_dir: Path, mixture: Mixture) -> dict[str, Any]:
    """The smallest ef of high enough recall, over queries that are composed as the service composes them."""
    say("exact answers")
    vectors_ND = mixture.all_vectors()
    queries = Queries(range(len(vectors_ND)))
    drawn = [next(queries) for _ in range(_NUM_TUNING)]
    options = SearchOptions(num_threads=config.threads, files=False)
    with SearchClient(uri, COLLECTION, bundle_dir, options=options) as client:
        clips_QD = vectors_ND[[one["clip"] for one in drawn]]
        queries_QD = client.query_encoder.compose(clips_QD, [one["edits"][0] for one in drawn])

    def ask(vectors_QD: np.ndarray, ef: int) -> list[list[str]]:
        call_options = replace(QUERYING, ef=ef, timeout_s=60.0)
        with open_collection(uri, COLLECTION, call_options=call_options) as collection:
            answers = collection.nearest_many(vectors_QD, limit=11, fields=("clip_id",))
        return [[row["clip_id"] for _score, row in rows] for rows in answers]

    ef, recall = tuned_ef(ask, vectors_ND, queries_QD, min_recall=config.min_recall)
    return {"ef": ef, "recall_at_10": recall}


def load(config: SearchBenchmark, service: Service, queries: Queries) -> dict[str, Any]:
    """Several clients, the highest rate, most of it held, and far too much."""
    say("one client, alone")
    alone = closed_loop(service, queries, num_clients=1, seconds=config.load_s / 3)
    say(f"{config.num_clients} clients")
    several = closed_loop(service, queries, num_clients=config.num_clients, seconds=config.load_s)
    say(f"{4 * config.num_clients} clients")
    many = closed_loop(
        service, queries, num_clients=4 * config.num_clients, seconds=config.load_s / 2
    )
    highest_qps = max(several.qps(), many.qps())
    found: dict[str, Any] = {
        f"qps_{config.num_clients}": several.qps(),
        f"p99_ms_{config.num_clients}": several.quantile_ms(99),
        f"p50_ms_{config.num_clients}": several.quantile_ms(50),
        f"errors_{config.num_clients}": several.num_errors(),
        "highest_qps": highest_qps,
    }
    say(f"{0.8 * highest_qps:.1f} queries a second for {config.hold_minutes:g} minutes")
    held = at_rate(
        service, queries, per_s=0.8 * highest_qps, seconds=60 * config.hold_minutes,
        during=lambda s: say(f"held {s:.0f} s") if int(s) % 60 == 0 else None,
    )  # fmt: skip
    memory = list(held.memory_mib)
    half = len(memory) // 2
    found |= {
        "hold_minutes": config.hold_minutes,
        "hold_qps": held.qps(),
        "load_errors": held.num_errors(),
        "load_p99_ms": held.quantile_ms(99),
        "load_memory_mib": memory[-1],
        "load_memory_growth_mib": float(np.mean(memory[half:]) - np.mean(memory[: half or 1])),
        "load_senders_late_s": held.late_s,
    }
    say(f"{4 * highest_qps:.1f} queries a second")
    over = at_rate(service, queries, per_s=4 * highest_qps, seconds=15)
    recovered_s = recovery_s(service, queries, normal_ms=alone.quantile_ms(95))
    found |= {
        "overload_statuses": str(over.statuses()),
        "overload_refused_p99_ms": over.quantile_ms(99, statuses=(429, 503)),
        "overload_recovery_s": recovered_s,
        "overload_senders_late_s": over.late_s,
    }
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures, and keep them where that is asked for."""
    import tyro

    config = tyro.cli(SearchBenchmark, args=argv, prog="python -m benchmarks.search.run")
    config.work_dir.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    reap_orphans(config.work_dir)
    start_s = time.monotonic()
    with track_child_processes(config.work_dir):
        found = run(config)
    found["minutes"] = (time.monotonic() - start_s) / 60
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    if config.record:
        kept = {name: str(value) for name, value in asdict(config).items()}
        excluded = ["starting Milvus and the service", "filling the archive", "tuning ef"]
        path = write_record("search", config=kept, metrics=found, excluded=excluded)
        sys.stdout.write(f"{os.path.relpath(path)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
