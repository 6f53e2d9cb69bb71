"""The search benchmark: speed, steadiness and honesty of composed queries in one record.

Speed and load: 200,000 vectors in a Milvus server, asked through `tfcovr serve` and in process. Quality: an indexed archive such as
the demo's. Resumable: the work folder keeps the server's data, its index and the figures of finished parts.
"""

import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from benchmarks.harness.parts import Part, PartRunner, hash_code
from benchmarks.harness.record import write_record
from benchmarks.search.latency import latency
from benchmarks.search.load import Queries, at_rate, closed_loop, recovery_s, without_milvus
from benchmarks.search.quality import measure_quality
from benchmarks.search.scale import COLLECTION, Mixture, clip_id, fill, make_bundle, say, tuned_ef
from benchmarks.search.service import Service, running_service
from indexing.search.client import SearchClient, SearchOptions
from indexing.store.client import QUERYING
from indexing.store.collection import open_collection
from indexing.store.dev_server import crash, start, stop

_NUM_TUNING = 200
PartName = Literal["setup", "speed", "load", "outage", "quality"]


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
    parts: tuple[PartName, ...] = ("speed", "load", "outage", "quality")
    """`setup` alone fills the archive and builds its index, which needs no quiet machine; the others do it where it is not done."""
    record: bool = False
    """Write the record; for a quiet machine."""

    def __post_init__(self) -> None:
        if self.record and not set(self.parts) >= set(get_args(PartName)) - {"setup"}:
            raise ValueError(f"parts is {self.parts}; a record needs all but setup")


def run(config: SearchBenchmark) -> dict[str, Any]:
    """All figures; finished parts of an earlier run with the same code and settings are not measured again."""
    settings = {
        name: str(v) for name, v in asdict(config).items() if name not in ("parts", "record")
    }
    with ExitStack() as stack:
        runner = PartRunner(config.work_dir, settings=settings | {"code": hash_code()}, say=say)
        scene = _Scene(config, runner, stack)
        needed = set(config.parts)
        if needed & {"speed", "load", "outage"}:
            needed |= {"setup", "tuning"}
        records = runner.run([part for part in scene.parts() if part.name in needed])
    return runner.figures | {"minutes": sum(record.seconds for record in records) / 60}


class _Scene:
    """The large archive in its server and the service over it, each started by the first part that needs it."""

    def __init__(self, config: SearchBenchmark, runner: PartRunner, stack: ExitStack) -> None:
        self._config = config
        self._runner = runner
        self._stack = stack
        self._server_dir = config.work_dir / "milvus-server"
        self._mixture = Mixture(num_vectors=config.num_vectors)

    def parts(self) -> list[Part]:
        """All of them, in order; the weights are minutes."""
        config = self._config
        return [
            Part(name="setup", run=lambda: self._archive[1], weight=25),
            Part(name="tuning", run=self._tune, weight=2),
            Part(name="speed", run=self._speed, weight=3),
            Part(
                name="load",
                run=lambda: load(config, self._service, self._queries),
                weight=config.hold_minutes + config.load_s / 30,
            ),
            Part(name="outage", run=self._outage, weight=2),
            Part(name="quality", run=self._quality, weight=5),
        ]

    @cached_property
    def _bundle_dir(self) -> Path:
        fusion = self._config.fusion
        return make_bundle(self._config.work_dir / f"bundle-{fusion}", widths=fusion)

    @cached_property
    def _archive(self) -> tuple[str, dict[str, Any]]:
        """Its address, and what filling it took."""
        say("Milvus")
        uri = start(self._server_dir)
        self._stack.callback(stop, self._server_dir)
        state_path = self._config.work_dir / "scale.json"
        with open_collection(uri, COLLECTION) as collection:
            return uri, fill(collection, self._mixture, self._bundle_dir, state_path)

    @cached_property
    def _service(self) -> Service:
        options = [
            *("--bundle", str(self._bundle_dir), "--milvus-uri", self._archive[0], "--collection", COLLECTION),
            *("--ef", str(self._runner.figures["ef"]), "--threads-per-replica", str(self._config.threads)),
            *("--max-in-flight-per-client", "256"),  # all clients have one address here
        ]  # fmt: skip
        say("service")
        log_path = self._config.work_dir / "service.log"
        return self._stack.enter_context(running_service(options, log_path=log_path))

    @cached_property
    def _queries(self) -> Queries:
        """One for all series: no text comes twice to one service."""
        return Queries([clip_id(number) for number in range(self._config.num_vectors)])

    def _tune(self) -> dict[str, Any]:
        return tune(self._config, self._archive[0], self._bundle_dir, self._mixture)

    def _speed(self) -> dict[str, Any]:
        service = self._service
        options = SearchOptions(
            num_threads=self._config.threads,
            files=False,
            call_options=replace(QUERYING, ef=self._runner.figures["ef"]),
        )
        with SearchClient(
            self._archive[0], COLLECTION, self._bundle_dir, options=options
        ) as client:
            return latency(client, service, self._queries, count=self._config.num_queries)

    def _outage(self) -> dict[str, Any]:
        server_dir, port = self._server_dir, int(self._archive[0].rpartition(":")[2])
        return without_milvus(
            self._service,
            self._queries,
            kill=lambda: crash(server_dir),
            start=lambda: start(server_dir, port),
        )

    def _quality(self) -> dict[str, Any]:
        self._stack.close()  # what the parts before it needed takes processors from it
        config = self._config
        return measure_quality(
            config.demo_dir / "stage2" / "bundle",
            str(config.demo_dir / "milvus"),
            config.demo_dir / "triplets.parquet",
            num_queries=config.num_queries,
        )


def tune(config: SearchBenchmark, uri: str, bundle_dir: Path, mixture: Mixture) -> dict[str, Any]:
    """The smallest ef of high enough recall, over queries that are composed as the service composes them."""
    say("exact answers")
    vectors_ND = mixture.all_vectors()
    queries = Queries(range(len(vectors_ND)))
    tuning_queries = [next(queries) for _ in range(_NUM_TUNING)]
    options = SearchOptions(num_threads=config.threads, files=False)
    with SearchClient(uri, COLLECTION, bundle_dir, options=options) as client:
        clips_QD = vectors_ND[[query["clip"] for query in tuning_queries]]
        queries_QD = client.query_encoder.compose(
            clips_QD, [query["edits"][0] for query in tuning_queries]
        )

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
    figures: dict[str, Any] = {
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
    figures |= {
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
    figures |= {
        "overload_statuses": str(over.statuses()),
        "overload_refused_p99_ms": over.quantile_ms(99, statuses=(429, 503)),
        "overload_recovery_s": recovered_s,
        "overload_senders_late_s": over.late_s,
    }
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures, and keep them where that is asked for."""
    import tyro

    config = tyro.cli(SearchBenchmark, args=argv, prog="python -m benchmarks.search.run")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    figures = run(config)
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    if config.record:
        settings = {name: str(value) for name, value in asdict(config).items()}
        excluded = ["starting Milvus and the service", "filling the archive", "tuning ef"]
        path = write_record("search", config=settings, metrics=figures, excluded=excluded)
        sys.stdout.write(f"{os.path.relpath(path)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
