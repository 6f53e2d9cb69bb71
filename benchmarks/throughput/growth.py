"""Rate and memory of indexing while the archive grows, and how fast Milvus takes rows."""

import importlib.util
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dives.video import write_video
from benchmarks.harness.steps import index_command, tree_memory_bytes
from benchmarks.throughput.decode import moving_pictures
from cluster.repetition import repeated
from encoders.clips import Clip, write_clips
from indexing.ledger.summary import SUMMARY
from indexing.store.bulk_import import BulkImport, rows_per_part
from indexing.store.collection import ClipCollection, open_collection
from indexing.store.dev_server import start, stop
from indexing.store.rows import collection_row

_FPS = 25
_DIM = 768
_BATCH = 1000


def measure_growth(
    bundle_dir: Path, *, scale: float, folder: Path, say: Callable[[str], None]
) -> dict[str, object]:
    """1,000 and 10,000 overlapping spans of long videos: clips/s, and the peak PSS of the driver, Ray and all workers.

    A thousand to a video of ten minutes, so that a clip costs the same decoding in both.
    """
    figures: dict[str, object] = {}
    peaks, rates = [], []
    seconds, spans_per_video = max(int(600 * scale), 20), max(int(1000 * scale), 40)
    videos = [folder / f"long-{n}.mp4" for n in range(10)]
    write_video(videos[0], moving_pictures(seconds * _FPS, (240, 320), 1), codec="h264")
    for copy in videos[1:]:
        shutil.copy(videos[0], copy)
    starts_s = np.linspace(0, seconds - 2.1, spans_per_video).tolist()
    for num_videos in (1, len(videos)):
        num_spans = num_videos * spans_per_video
        clips = [
            Clip(clip_id=f"{video.stem}-{i:05d}", video_uri=str(video), start_s=s, end_s=s + 2)
            for video in videos[:num_videos]
            for i, s in enumerate(starts_s)
        ]
        place = folder / str(num_spans)
        write_clips(place / "clips.parquet", clips)
        say(f"growth: {num_spans} spans")
        peaks.append(index_measured(bundle_dir, place))
        summary = json.loads((place / "run" / SUMMARY).read_text())
        rates.append(summary["clips_per_s_warm"] or summary["clips_per_s"])
        figures[f"peak_pss_gib_{num_spans}"] = peaks[-1] / 2**30
        figures[f"clips_per_s_{num_spans}"] = rates[-1]
    return figures | {
        "memory_growth": peaks[1] / peaks[0] - 1,
        "rate_of_large_over_small": rates[1] / rates[0],
    }


def index_measured(bundle_dir: Path, place: Path) -> int:
    """Index `place/clips.parquet` into `place`; the peak bytes of the run, the driver and all below it."""
    command = index_command(bundle_dir, place / "clips.parquet", place)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as driver:
        peak_bytes = [0]

        def watch() -> None:
            peak_bytes[0] = max(peak_bytes[0], tree_memory_bytes(driver.pid))

        with repeated(watch, every_s=0.5, name="watch-memory"):
            status = driver.wait()
    if status:
        raise RuntimeError(f"indexing ended with status {status}: {' '.join(command)}")
    return peak_bytes[0]


def measure_write(*, scale: float, folder: Path, say: Callable[[str], None]) -> dict[str, object]:
    """Rows/s at 768 dimensions: upserts of 1,000 in Milvus Lite and in a standalone server where its package is installed, and its imports."""
    num_rows = max(int(200_000 * scale), 2 * _BATCH)
    figures: dict[str, object] = {"rows": num_rows, "dim": _DIM}
    say(f"write: {num_rows} rows to Milvus Lite")
    figures["milvus_lite_rows_per_s"] = _write_rate(str(folder / "lite"), num_rows)
    figures["milvus_rows_per_s"] = figures["milvus_lite_rows_per_s"]
    if importlib.util.find_spec("milvus"):
        say(f"write: {num_rows} rows to a server")
        with _standalone(folder / "server") as uri:
            figures["milvus_server_rows_per_s"] = _write_rate(uri, num_rows)
            say(f"write: {num_rows} rows imported by a server")
            figures["milvus_import_rows_per_s"] = _import_rate(uri, num_rows, folder)
        figures["milvus_rows_per_s"] = figures["milvus_server_rows_per_s"]
    return figures


def _write_rate(uri: str, num_rows: int) -> float:
    """Flush and count included; making the rows is not."""
    with open_collection(uri, "benchmark") as collection:
        collection.create_or_check(encoder_id="benchmark", embedding_dim=_DIM)
        return _rate(collection, collection.upsert, num_rows, _BATCH)


def _import_rate(uri: str, num_rows: int, folder: Path) -> float:
    """As `_write_rate`, through Parquet files in parts of the size that an indexing run makes."""
    with open_collection(uri, "imported") as collection:
        collection.create_or_check(encoder_id="benchmark", embedding_dim=_DIM)
        with closing(BulkImport(collection, folder)) as importer:
            load = partial(importer.load, place=str(folder / "parts"))
            return _rate(collection, load, num_rows, rows_per_part(_DIM))


def _rate(
    collection: ClipCollection,
    write: Callable[[list[dict[str, Any]]], None],
    num_rows: int,
    rows_at_once: int,
) -> float:
    rng = np.random.default_rng(0)
    taken_s = 0.0
    for first in range(0, num_rows, rows_at_once):
        num = min(rows_at_once, num_rows - first)
        vectors_ND = rng.standard_normal((num, _DIM)).astype(np.float32)
        vectors_ND /= np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        rows = [
            collection_row(
                Clip(clip_id=f"{first + i}", video_uri="benchmark"),
                key=f"{first + i}",
                embedding_D=vectors_ND[i],
                backend="none",
                precision="float32",
            )
            for i in range(num)
        ]
        started = time.perf_counter()
        write(rows)
        taken_s += time.perf_counter() - started
    started = time.perf_counter()
    collection.flush()
    num_held = collection.count()
    taken_s += time.perf_counter() - started
    if num_held != num_rows:
        raise ValueError(
            f"collection {collection.name!r} holds {num_held} rows after {num_rows} were written"
        )
    return num_rows / taken_s


@contextmanager
def _standalone(folder: Path) -> Iterator[str]:
    uri = start(folder)
    try:
        yield uri
    finally:
        stop(folder)
