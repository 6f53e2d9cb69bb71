"""What a manifest costs the driver while the archive grows: planning, a rerun, verifying, the ledger, and listing a bucket.

Clips are made up, ten to a video, and nothing is decoded, embedded or asked of Milvus: the keys of its rows come from a generator.
Their videos are empty files, so that every stamp is asked of the file system. Each step of a size runs in a process of its own, whose
memory is its peak, imports included.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from encoders.clips import CLIPS_SCHEMA
from encoders.files import open_table
from indexing.ledger.archives import ArchiveRows
from indexing.ledger.ledger import Ledger, Outcome
from indexing.ledger.manifest import Manifest
from indexing.ledger.plan_archive import Contents, Source, plan_archive
from indexing.ledger.row_table import State
from indexing.pipeline.shards import write_work
from indexing.sources.archive import list_archive
from indexing.sources.content import read_contents
from indexing.sources.fingerprint import read_fingerprint
from indexing.store.rows import row_digest

_ENCODER_ID = "0123456789abcdef"
_CLIPS_PER_VIDEO = 10
_ROWS_PER_GROUP = 100_000
_BATCH = 32
_NUM_RECORDED = 20_000
_LATENCY_S = 0.02
_PER_PAGE = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Measure planning at several sizes, and a listing."""

    sizes: tuple[int, ...] = (100_000, 300_000, 1_000_000)
    """Clips of each archive; curves are fitted over them."""
    num_objects: int = 100_000
    """Objects of the bucket, whose server answers a page of a thousand after 20 ms."""
    work_dir: Path | None = None
    """Folder for the made-up archives and their ledgers, a gigabyte for a million clips; None = the system's temporary folder."""

    def __post_init__(self) -> None:
        if len(self.sizes) < 2 or min(self.sizes) < 1000:
            raise ValueError(f"sizes is {self.sizes}; give at least two, each at least 1000")


def measure(config: Config) -> dict[str, Any]:
    """CPU-seconds per million clips at the largest size, resident memory beyond the imports, exponents over all sizes."""
    rows = []
    for size in config.sizes:
        with tempfile.TemporaryDirectory(dir=config.work_dir) as folder:
            rows.append(_measure_size(size, Path(folder)))
    largest, millions = rows[-1], config.sizes[-1] / 1e6
    sizes = list(config.sizes)
    return {
        "plan_cpu_s_per_million": largest["plan_cpu_s"] / millions,
        "plan_exponent": _exponent(sizes, [row["plan_cpu_s"] for row in rows]),
        "rerun_nothing_cpu_s_per_million": largest["rerun_cpu_s"] / millions,
        "verify_cpu_s_per_million": largest["verify_cpu_s"] / millions,
        "record_us_per_row": largest["record_us_per_row"],
        "driver_peak_gb_largest": max(largest[f"{step}_peak_bytes"] for step in _STEPS) / 1e9,
        "verify_peak_gb_largest": largest["verify_peak_bytes"] / 1e9,
        "memory_exponent": _exponent(
            sizes, [max(row[f"{step}_peak_bytes"] for step in _STEPS) for row in rows]
        ),
        "plan_objects_per_s": _apart(_objects_per_s, config.num_objects),
        "by_size": dict(zip(map(str, config.sizes), rows, strict=True)),
    }


def _apart(call: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def _exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def _measure_size(num_clips: int, folder: Path) -> dict[str, float]:
    """A first run up to the blocks of its work, one that stops after that, a rerun that finds nothing to do, and `tfcovr verify`."""
    _apart(_make, num_clips, folder)
    values: dict[str, float] = {}
    for step, call in _STEPS.items():
        values |= _apart(_measured, step, call, num_clips, folder)
    return values


def _measured(
    step: str, call: Callable[[int, Path], dict[str, float]], num_clips: int, folder: Path
) -> dict[str, float]:
    started = time.process_time()
    values = call(num_clips, folder)
    seconds = time.process_time() - started
    return values | {f"{step}_cpu_s": seconds, f"{step}_peak_bytes": _peak_bytes()}


def _plan(ledger: Ledger, manifest: Manifest, folder: Path) -> str:
    return plan_archive(
        Source(str(folder / "clips.parquet")),
        manifest,
        encoder_id=_ENCODER_ID,
        archive=ArchiveRows(),
        contents=Contents(known=ledger.contents, keep=ledger.keep_contents),
    ).fingerprint


def _first_run(num_clips: int, folder: Path) -> dict[str, float]:
    """Planning of an archive that is new, its work on disk, and its outcomes recorded."""
    with Ledger(folder) as ledger, closing(Manifest(ledger, folder)) as manifest:
        _plan(ledger, manifest, folder)
        manifest.read_rows([], ArchiveRows())
        num_pending = manifest.begin_pending()
        (folder / "blocks").mkdir()
        write_work(folder / "blocks", manifest.pending(), {}, num_clips=num_pending, num_workers=64)
        if num_pending != num_clips:
            raise RuntimeError(f"{num_pending} of {num_clips} clips are pending")
    return {}


def _record(num_clips: int, folder: Path) -> dict[str, float]:
    """What the driver does for the rows of result batches; all others are recorded at once."""
    with Ledger(folder) as ledger, closing(Manifest(ledger, folder)) as manifest:
        _plan(ledger, manifest, folder)
        manifest.read_rows([], ArchiveRows())
        outcomes: list[Outcome] = []
        num, seconds = 0, 0.0
        for planned in manifest.clips(State.MISSING):
            outcomes.append(
                Outcome(
                    clip_key=planned.clip_key,
                    clip_id=planned.clip.clip_id,
                    video_uri=planned.clip.video_uri,
                    row_digest=row_digest(planned.clip),
                )
            )
            is_timed = num < _NUM_RECORDED
            if len(outcomes) == (_BATCH if is_timed else _ROWS_PER_GROUP):
                started = time.process_time()
                ledger.record(outcomes)
                manifest.note_written(outcomes)
                manifest.rows.stale_of(outcome.clip_id for outcome in outcomes)
                seconds += time.process_time() - started if is_timed else 0.0
                num += len(outcomes)
                outcomes = []
        ledger.record(outcomes)
        ledger.clear_unchecked()
        _write_keys(manifest, folder)
    return {"record_us_per_row": seconds / min(num_clips, _NUM_RECORDED) * 1e6}


def _plan_again(num_clips: int, folder: Path) -> dict[str, float]:
    """The whole comparison of an archive whose rows are all in, and what a later run needs to see that nothing changed."""
    with Ledger(folder) as ledger, closing(Manifest(ledger, folder)) as manifest:
        fingerprint = _plan(ledger, manifest, folder)
        if manifest.may_need_workers():
            raise RuntimeError("a clip has no outcome")
        _read_all_rows(manifest, folder)
        num_outdated = sum(1 for _ in manifest.outdated())
        num_present = manifest.count(State.PRESENT)
        if num_outdated or num_present != num_clips:
            raise RuntimeError(
                f"{num_present} of {num_clips} clips are present, {num_outdated} outdated"
            )
        ledger.finish(fingerprint)
    return {}


def _rerun(_num_clips: int, folder: Path) -> dict[str, float]:
    """A rerun that finds nothing to do."""
    with Ledger(folder) as ledger:
        if read_fingerprint(str(folder / "clips.parquet")) != ledger.finished():
            raise RuntimeError("the archive did not change, and its fingerprint did")
    return {}


def _verify(num_clips: int, folder: Path) -> dict[str, float]:
    with Ledger(folder, reads_only=True) as ledger, closing(Manifest(ledger, folder)) as manifest:
        _plan(ledger, manifest, folder)
        _read_all_rows(manifest, folder)
        rows = manifest.rows
        faults = rows.num_stale_clips() + rows.num_orphaned() + len(rows.doubled())
        if faults or rows.num() != num_clips or manifest.count(State.PRESENT) != num_clips:
            raise RuntimeError(f"{rows.num()} rows, {faults} faults")
    return {}


_STEPS: dict[str, Callable[[int, Path], dict[str, float]]] = {
    "first": _first_run,
    "record": _record,
    "plan": _plan_again,
    "rerun": _rerun,
    "verify": _verify,
}


_KEYS = pa.schema([("clip_key", pa.string()), ("clip_id", pa.string())])


def _write_keys(manifest: Manifest, folder: Path) -> None:
    """In the order of the keys, as Milvus lists them."""
    with pq.ParquetWriter(folder / "keys.parquet", _KEYS) as writer:
        query = "SELECT clip_id, clip_key FROM plan.clips ORDER BY clip_key"
        for page in manifest.rows.pages(query):
            rows = [{"clip_key": row.clip_key, "clip_id": row.clip_id} for row in page]
            writer.write_table(pa.Table.from_pylist(rows, schema=_KEYS))


def _read_all_rows(manifest: Manifest, folder: Path) -> None:
    with open_table(folder / "keys.parquet") as file:
        keys = (
            (row["clip_key"], row["clip_id"])
            for batch in file.iter_batches()
            for row in batch.to_pylist()
        )
        manifest.read_rows(keys, ArchiveRows())


def _make(num_clips: int, folder: Path) -> None:
    """A table of clips, and their videos."""
    attributes = [[("twists", str(n % 7)), ("position", ("pike", "tuck", "free")[n % 3])] for n in range(21)]  # fmt: skip
    with pq.ParquetWriter(folder / "clips.parquet", CLIPS_SCHEMA) as writer:
        for first in range(0, num_clips, _ROWS_PER_GROUP):
            numbers = range(first, min(first + _ROWS_PER_GROUP, num_clips))
            videos = [n // _CLIPS_PER_VIDEO for n in numbers]
            columns = [
                [f"{v:08d}-{n % _CLIPS_PER_VIDEO}" for n, v in zip(numbers, videos, strict=True)],
                [_video_name(v) for v in videos],
                [2.0 * (n % _CLIPS_PER_VIDEO) for n in numbers],
                [2.0 * (n % _CLIPS_PER_VIDEO) + 2.0 for n in numbers],
                [f"label-{n % 300}" for n in numbers],
                ["test"] * len(numbers),
                [attributes[n % 21] for n in numbers],
            ]
            arrays = [
                pa.array(c, field.type) for c, field in zip(columns, CLIPS_SCHEMA, strict=True)
            ]
            writer.write_table(pa.table(arrays, schema=CLIPS_SCHEMA))
    for video in range(-(-num_clips // _CLIPS_PER_VIDEO)):
        path = folder / _video_name(video)
        if video % 1000 == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _video_name(video: int) -> str:
    return f"videos/{video // 1000:05d}/{video:08d}.mp4"


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


_BUCKET = f"""
import sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

class Bucket(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *_): pass
    def do_GET(self):
        time.sleep({_LATENCY_S})
        query = parse_qs(urlsplit(self.path).query)
        first, end = int(query.get("continuation-token", ["0"])[0]), int(sys.argv[1])
        last = min(first + {_PER_PAGE}, end)
        more = f"<NextContinuationToken>{{last}}</NextContinuationToken>" if last < end else ""
        rows = "".join(
            f'<Contents><Key>top/{{n:08d}}.mp4</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>'
            f'<ETag>&quot;{{n:032x}}&quot;</ETag><Size>{{n}}</Size><StorageClass>STANDARD</StorageClass></Contents>'
            for n in range(first, last))
        body = (f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><EncodingType>url</EncodingType>'
                f'{{more}}{{rows}}</ListBucketResult>').encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_HEAD(self):  # an object that is asked for one by one
        time.sleep({_LATENCY_S})
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def _objects_per_s(num_objects: int) -> float:
    """Objects a second from a listing to the content of each, as planning needs them."""
    with subprocess.Popen(
        [sys.executable, "-c", _BUCKET, str(num_objects)], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            os.environ |= {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_REGION": "eu-west-1",
                "AWS_ACCESS_KEY_ID": "id",
                "AWS_SECRET_ACCESS_KEY": "secret",
            }
            started = time.perf_counter()
            archive = list_archive("s3://bucket/top/")
            uris = (clip.video_uri for clip in archive.clips)
            contents = read_contents(uris, {}, stamps=archive.stamps)
            seconds = time.perf_counter() - started
        finally:
            server.kill()
    if len(contents) != num_objects or any(content.problem for content in contents.values()):
        raise RuntimeError(f"{len(contents)} of {num_objects} objects have a content")
    return num_objects / seconds
