"""Runs clips through the stages of encoders/: as Ray actor pools where Ray is on, else in a plain loop with the same rows."""

import hashlib
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from encoders.clips import Clip
from encoders.stages.base import span_row
from encoders.stages.decode_stage import DecodeStage

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowPlan:
    """Decode, then one stage that takes batches of clips."""

    decode_arguments: Mapping[str, Any]
    stage: type
    stage_arguments: Mapping[str, Any]
    batch_size: int = 16
    num_workers: int = 0
    """Ray actors per stage (Ray must be connected); 0 = in this process."""
    use_gpu: bool = False


def video_rows(clips: Sequence[Clip]) -> list[Row]:
    """One row per video, with its spans in the order of the clips: each video is read once."""
    clips_by_uri: dict[str, list[Clip]] = {}
    for clip in clips:
        clips_by_uri.setdefault(clip.video_uri, []).append(clip)
    return [
        {
            "video_uri": uri,
            "clip_ids": [clip.clip_id for clip in of_video],
            "spans": [span_row(clip) for clip in of_video],
        }
        for uri, of_video in clips_by_uri.items()
    ]


def run_flow(clips: Sequence[Clip], plan: FlowPlan) -> Iterator[Row]:
    """One row per clip, in any order."""
    batches = _plain(clips, plan) if plan.num_workers == 0 else _with_ray(clips, plan)
    for batch in batches:
        names = list(batch)
        for row in range(len(batch["clip_id"])):
            yield {name: batch[name][row] for name in names}


def _plain(clips: Sequence[Clip], plan: FlowPlan) -> Iterator[dict[str, np.ndarray]]:
    stage = plan.stage(**plan.stage_arguments)
    waiting: list[Row] = []
    for row in _decoded(video_rows(clips), plan):
        waiting.append(row)
        if len(waiting) == plan.batch_size:
            yield stage(_columns(waiting))
            waiting = []
    if waiting:
        yield stage(_columns(waiting))


def _decoded(rows: Sequence[Row], plan: FlowPlan) -> Iterator[Row]:
    """Decodes ahead of the next stage, never more than two batches of clips."""
    decode = DecodeStage(**plan.decode_arguments)
    ahead: queue.Queue[Row | BaseException | None] = queue.Queue(maxsize=2 * plan.batch_size)
    stop = threading.Event()

    def put(item: Row | BaseException | None) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                ahead.put(item, timeout=0.2)
                return

    def work() -> None:
        try:
            for row in rows:
                for clip_row in decode(row):
                    put(clip_row)
                    if stop.is_set():
                        return
            put(None)
        except BaseException as error:  # noqa: BLE001  raised again by the reader
            put(error)

    thread = threading.Thread(target=work, name="decode-ahead", daemon=True)
    thread.start()
    try:
        while (item := ahead.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()


def _columns(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Bytes stay objects: numpy would cut their trailing zeros."""
    columns: dict[str, np.ndarray] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if isinstance(values[0], (bytes, bytearray)):
            columns[name] = np.empty(len(values), object)
            columns[name][:] = values
        else:
            columns[name] = np.array(values)
    return columns


def _with_ray(clips: Sequence[Clip], plan: FlowPlan) -> Iterator[dict[str, np.ndarray]]:
    from cluster.dataflow import Stage, stream_dataflow

    # Half a CPU each: the two stages of one worker share a core, and either may be the slow one.
    shared: dict[str, Any] = {"num_workers": plan.num_workers, "num_cpus": 0.5}
    # A decoder on a GPU is placed where there is one, and sees that one alone; it shares it with the encoder of its worker.
    decodes_on_gpu = str(plan.decode_arguments.get("device", "cpu")).startswith("cuda")
    gpu_share = (0.5 if decodes_on_gpu else 1.0) if plan.use_gpu else 0.0
    decode = Stage(
        name="decode",
        factory=DecodeStage,
        arguments=plan.decode_arguments,
        kind="rows",
        num_gpus=0.5 if decodes_on_gpu else 0.0,
        **shared,
    )
    stage = Stage(
        name="embed",
        factory=plan.stage,
        arguments=plan.stage_arguments,
        kind="batches",
        batch_size=plan.batch_size,
        num_gpus=gpu_share,
        **shared,
    )
    return stream_dataflow(video_rows(clips), [decode, stage], result_batch_size=plan.batch_size)


def clip_fingerprint(clip: Clip) -> str:
    """Changes when the file or the span does; no content is read."""
    path = Path(clip.video_uri)
    stat = path.stat() if path.exists() else None
    seen = (str(path), clip.start_s, clip.end_s, stat and stat.st_size, stat and stat.st_mtime_ns)
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]
