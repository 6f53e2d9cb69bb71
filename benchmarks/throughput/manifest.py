"""What a manifest costs the driver while the archive grows: planning, the ledger, verifying, and listing a bucket.

Clips are made up, ten to a video, and nothing is decoded, embedded or asked of Milvus. Each size runs in a process of its own.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from encoders.clips import Clip, write_clips
from indexing.ledger.ledger import Ledger, Outcome
from indexing.ledger.planned_clip import plan_clips
from indexing.ledger.reconcile import compare
from indexing.sources.archive import list_archive
from indexing.sources.content import Content, FileStamp, read_contents
from indexing.store.rows import require_storable, row_digest

_ENCODER_ID = "0123456789abcdef"
_LATENCY_S = 0.02
_PER_PAGE = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Measure planning at several sizes, and a listing."""

    sizes: tuple[int, ...] = (100_000, 300_000, 1_000_000)
    """Clips of each archive; curves are fitted over them."""
    num_objects: int = 100_000
    """Objects of the bucket, whose server answers a page of a thousand after 20 ms."""

    def __post_init__(self) -> None:
        if len(self.sizes) < 2 or min(self.sizes) < 1000:
            raise ValueError(f"sizes is {self.sizes}; give at least two, each at least 1000")


def measure(config: Config) -> dict[str, Any]:
    """CPU-seconds per million clips at the largest size, bytes a clip beyond the smallest, exponents over all sizes."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [_apart(_measure_size, size, folder) for size in config.sizes]
    largest, millions = rows[-1], config.sizes[-1] / 1e6
    sizes = list(config.sizes)
    gained = (largest["peak_bytes"] - rows[0]["peak_bytes"]) / (sizes[-1] - sizes[0])
    return {
        "plan_cpu_s_per_million": largest["plan_cpu_s"] / millions,
        "plan_exponent": _exponent(sizes, [row["plan_cpu_s"] for row in rows]),
        "verify_cpu_s_per_million": largest["verify_cpu_s"] / millions,
        "ledger_cpu_s_per_million": largest["ledger_cpu_s"] / millions,
        "record_us_per_row": largest["record_cpu_s"] / millions,
        "driver_bytes_per_clip": gained,
        "driver_peak_gb_largest": largest["peak_bytes"] / 1e9,
        "memory_exponent": _exponent(sizes, [row["peak_bytes"] for row in rows]),
        "plan_objects_per_s": _apart(_objects_per_s, config.num_objects),
        "by_size": dict(zip(map(str, config.sizes), rows, strict=True)),
    }


def _apart(call: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *arguments).result()


def _exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def _measure_size(num_clips: int, folder: str) -> dict[str, float]:
    """The steps of a rerun that finds nothing to do, as `tfcovr index` takes them, and those of `tfcovr verify`."""
    place = Path(folder) / str(num_clips)
    _apart(_make, num_clips, place)
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        started = time.process_time()
        yield
        seconds[name] = time.process_time() - started

    with timed("list_cpu_s"):
        archive = list_archive(place / "clips.parquet")
        for clip in archive.clips:
            require_storable(clip)
    with timed("ledger_cpu_s"):
        ledger = Ledger(place)
        contents = ledger.read_contents()
    with timed("keys_cpu_s"):
        planned = plan_clips(archive.clips, contents, encoder_id=_ENCODER_ID)
    stored = [(one.clip_key, one.clip.clip_id) for one in planned]
    with timed("compare_cpu_s"):
        found = compare(planned, stored, dead_keys=ledger.dead_keys())
    with timed("digest_cpu_s"):
        changed = [
            one
            for one in found.present
            if ledger.outcomes[one.clip_key].row_digest != row_digest(one.clip)
        ]
    if changed or len(found.present) != num_clips:
        raise RuntimeError(f"{len(found.present)} of {num_clips} clips are present")
    peak_bytes = _peak_bytes()
    outcomes = list(ledger.outcomes.values())
    with timed("record_cpu_s"):
        for first in range(0, num_clips, 1000):
            Ledger(place / "fresh" / str(first)).record(outcomes[first : first + 1000])
    planning = ("list_cpu_s", "ledger_cpu_s", "keys_cpu_s", "compare_cpu_s", "digest_cpu_s")
    verifying = ("list_cpu_s", "ledger_cpu_s", "keys_cpu_s", "compare_cpu_s")
    return seconds | {
        "plan_cpu_s": sum(seconds[name] for name in planning),
        "verify_cpu_s": sum(seconds[name] for name in verifying),
        "peak_bytes": peak_bytes,
    }


def _make(num_clips: int, place: Path) -> None:
    """A table of clips, and the run folder of an archive that is in the collection."""
    clips = [
        Clip(
            clip_id=f"{n // 10:08d}-{n % 10}",
            video_uri=f"/archive/{n // 10:08d}.mp4",
            start_s=2.0 * (n % 10),
            end_s=2.0 * (n % 10) + 2.0,
            label=f"label-{n % 300}",
            split="test",
            attributes={"twists": str(n % 7), "position": ("pike", "tuck", "free")[n % 3]},
        )
        for n in range(num_clips)
    ]
    write_clips(place / "clips.parquet", clips)
    contents = {
        clip.video_uri: Content(
            content_hash=f"{number:032x}", stamp=FileStamp(size_bytes=number, mtime_ns=1)
        )
        for number, clip in enumerate(clips[::10])
    }
    ledger = Ledger(place)
    ledger.write_contents(contents)
    ledger.record(
        [
            Outcome(
                clip_key=planned.clip_key,
                clip_id=planned.clip.clip_id,
                video_uri=planned.clip.video_uri,
                row_digest=row_digest(planned.clip),
            )
            for planned in plan_clips(clips, contents, encoder_id=_ENCODER_ID)
        ]
    )


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
