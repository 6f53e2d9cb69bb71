"""Two drivers at once into one collection of a server, and a query load while the index of a collection changes."""

import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.steps import tfcovr_command
from benchmarks.studies.trust.jobs import Archive, of_vectors, stored_vectors
from encoders.bundle.card import read_card
from indexing.store import dev_server
from indexing.store.client import QUERYING
from indexing.store.collection import open_collection

_RUN_LIMIT_S = 600.0
_MOST_ROUNDS = 4
_NUM_CLIENTS = 3


@contextmanager
def running_server(folder: Path) -> Iterator[str]:
    """The URI of a Milvus server that ends with the block."""
    try:
        yield dev_server.start(folder)
    finally:
        dev_server.stop(folder)


def two_drivers(
    uri: str, archive: Archive, folder: Path, *, seed: int, expected: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The same archive twice at once, every other time from the same run folder; one may be killed, and who was refused asks again."""
    draw = random.Random(f"drivers {seed}")
    run_dirs = [folder / "run", folder / ("run" if seed % 2 else "run2")]
    name = f"drivers_{seed}"
    commands = [_command(archive, uri, name, run_dir) for run_dir in run_dirs]
    statuses = _until_both_end_well(commands, folder, draw)
    found = of_vectors(stored_vectors(uri, name, archive.bundle), expected)
    bad = found.lost + found.doubled + found.wrong
    return {"statuses": statuses, "lost": bad + _num_bad(statuses)}


def two_archives(
    uri: str,
    archives: tuple[Archive, Archive],
    folder: Path,
    *,
    seed: int,
    expected: tuple[dict[str, np.ndarray], dict[str, np.ndarray]],
) -> dict[str, Any]:
    """Two archives whose clips have the same ids, at once into one collection; each ends with its own rows."""
    draw = random.Random(f"archives {seed}")
    name = f"archives_{seed}"
    commands = [
        _command(archive, uri, name, folder / f"run{number}", "--prune")
        for number, archive in enumerate(archives)
    ]
    statuses = _until_both_end_well(commands, folder, draw)
    rows = stored_vectors(uri, name, archives[0].bundle)
    plain = [(clip_id, vector_D) for clip_id, vector_D in rows if ":" not in clip_id]
    named = [(i.partition(":")[2], vector_D) for i, vector_D in rows if ":" in i]
    # Which of the two came first, and has no name, is chance.
    lost = min(
        sum(
            found.lost + found.doubled + found.wrong
            for found in (of_vectors(plain, first), of_vectors(named, second))
        )
        for first, second in (expected, expected[::-1])
    )
    return {"statuses": statuses, "lost": lost + _num_bad(statuses)}


def _command(
    archive: Archive, uri: str, name: str, run_dir: Path, *options: str
) -> tuple[str, ...]:
    return tfcovr_command(
        *("index", "--clips", archive.clips, "--bundle", archive.bundle, "--milvus-uri", uri),
        *("--collection", name, "--run-dir", run_dir, *options),
    )


def _until_both_end_well(
    commands: list[tuple[str, ...]], folder: Path, draw: random.Random
) -> list[list[int]]:
    """Statuses of each round; a command that did not end with 0 is in the next one too."""
    folder.mkdir(parents=True, exist_ok=True)
    statuses: list[list[int]] = []
    left, kill_s = commands, draw.choice((None, draw.uniform(5, 25)))
    while left and len(statuses) < _MOST_ROUNDS:
        with (folder / "log").open("ab") as log:
            drivers = []
            for command in left:
                drivers.append(subprocess.Popen(command, stdout=log, stderr=log))
                time.sleep(draw.uniform(0, 1.5))
        if kill_s is not None and not statuses:
            time.sleep(kill_s)
            drivers[0].kill()
        try:
            statuses.append([driver.wait(_RUN_LIMIT_S) for driver in drivers])
        finally:
            for driver in drivers:
                if driver.poll() is None:
                    driver.kill()
        left = [command for command, status in zip(left, statuses[-1], strict=True) if status != 0]
    return statuses


def _num_bad(statuses: list[list[int]]) -> int:
    """1 where a command never ended well."""
    return int(any(statuses[-1]))


@dataclass(kw_only=True, slots=True)
class _Load:
    num_queries: int = 0
    failed: list[str] = field(default_factory=list)


def index_change(
    uri: str, archive: Archive, folder: Path, *, num_rows: int, seed: int
) -> dict[str, Any]:
    """Change the index of a collection by `tfcovr index`, to a graph and back, while clients ask without a pause."""
    rng = np.random.default_rng(seed)
    card = read_card(archive.bundle)
    name = f"change_{seed}"
    command = _command(archive, uri, name, folder / "run", "--index")
    types, load, ended = [], _Load(), threading.Event()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("ab") as log, open_collection(uri, name) as collection:
        subprocess.run((*command, "flat"), stdout=log, stderr=log, check=True)
        collection.check(encoder_id=card.encoder_id)
        rows = next(iter(collection.rows_of_keys([row["clip_key"]]) for row in collection.rows()))
        vectors_ND = rng.normal(size=(num_rows, card.embedding_dim)).astype(np.float32)
        vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        for first in range(0, num_rows, 1000):
            part = range(first, min(first + 1000, num_rows))
            made = [
                rows[0] | {"clip_key": f"{n:032x}", "clip_id": f"made:{n}", "embedding": vectors_ND[n].tolist()}
                for n in part
            ]  # fmt: skip
            collection.upsert(made)
        collection.flush()
        clients = [
            threading.Thread(target=_ask, args=(uri, name, vectors_ND, load, ended, number))
            for number in range(_NUM_CLIENTS)
        ]
        for client in clients:
            client.start()
        try:
            for index_type in ("hnsw", "flat"):
                subprocess.run((*command, index_type), stdout=log, stderr=log, check=True)
                with open_collection(uri, name) as changed:
                    changed.check(encoder_id=card.encoder_id)
                    types.append(changed.index_type())
                    count = changed.count()
        finally:
            ended.set()
            for client in clients:
                client.join()
    if types != ["HNSW", "FLAT"]:
        raise RuntimeError(f"the index became {types}; see {folder / 'log'}")
    return {
        "queries": load.num_queries,
        "failed": len(load.failed),
        "rows": count,
        "first_errors": load.failed[:3],
    }


def _ask(
    uri: str, name: str, vectors_ND: np.ndarray, load: _Load, ended: threading.Event, number: int
) -> None:
    """Each vector is its own nearest row: an answer without it counts as failed."""
    with open_collection(uri, name, call_options=QUERYING) as collection:
        while not ended.is_set():
            number = (number + _NUM_CLIENTS) % len(vectors_ND)
            load.num_queries += 1
            try:
                ((_cosine, row), *_rest) = collection.nearest(vectors_ND[number], limit=10)
                if row["clip_id"] != f"made:{number}":
                    load.failed.append(f"query {number}: {row['clip_id']}")
            except Exception as error:  # noqa: BLE001 - whatever it is, the query failed
                load.failed.append(f"query {number}: {type(error).__name__}: {error}"[:300])
