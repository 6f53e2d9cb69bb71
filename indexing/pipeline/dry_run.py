"""A dry run: what an archive holds, what a sample of it takes through the real stages, and so what all of it will take.

Nothing is written into the collection: the sample goes into one of its own, which is dropped.
"""

import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from rich.console import Console

from cluster.machine import describe_machine
from cluster.ray_session import ray_session
from cluster.storage import scratch_folder
from encoders.bundle.card import read_card
from encoders.clips import Clip, write_clips
from encoders.media.bitstream import clip_duration_s
from encoders.media.container import path_of
from indexing.ledger.forecast import (
    ArchiveSize,
    Forecast,
    MeasuredRun,
    Nodes,
    forecast_run,
    measured_run,
    rates_of,
)
from indexing.ledger.summary import SUMMARY
from indexing.pipeline.config import IndexConfig
from indexing.pipeline.index_archive import index_archive
from indexing.pipeline.workers import choose_workers, clips_per_batch
from indexing.sources.archive import Archive, iter_archive
from indexing.sources.changes import changed_since, since_of
from indexing.sources.uris import is_remote
from indexing.store.collection import open_collection
from indexing.store.endpoint import is_lite

# The smaller run of the sample: it tells what the start of the workers costs.
_SMALL_SHARE = 0.2


def dry_run(config: IndexConfig, *, console: Console | None = None) -> Forecast:
    """The forecast; ValueError where the sample has too few clips that can be used, or the rates are not those of a run."""
    console = console or Console(quiet=True)
    options = config.forecast
    sample, size = _measure(config, options.sample)
    if options.rates is not None:
        run = measured_run(options.rates)
        rates = rates_of(run)
    else:
        with _scratch(config) as scratch, ray_session() as session:
            # Batches as large as those of the whole archive.
            workers = choose_workers(config.workers, session, is_lite=is_lite(config.milvus_uri))
            sampling = read_card(config.bundle).sampling
            batch_size = config.batch_size or clips_per_batch(sampling, workers, size.clips)
            scratch = replace(scratch, batch_size=batch_size)
            small = max(int(len(sample) * _SMALL_SHARE), 1)
            runs = [_run(scratch, clips, console) for clips in (sample[:small], sample)]
        run = runs[1]
        rates = rates_of(run, runs[0])
    nodes = Nodes(
        count=options.nodes,
        cpus=options.cpus or run.cpus or describe_machine().num_cores,
        gpus=options.gpus or run.gpus,
        price_per_h=config.price_per_node_h,
    )
    return forecast_run(rates, size, nodes)


def _measure(config: IndexConfig, num: int) -> tuple[list[Clip], ArchiveSize]:
    """A sample, drawn while the archive is listed, so that every clip is in it with the same chance, and the size of the archive.

    It is shuffled: every part of it stands for the whole.
    """
    rng = random.Random(0)
    sample: list[Clip] = []
    num_clips = num_videos = num_bytes = 0
    last = ""
    since_s = since_of(config.since, time.time()) if config.since else None
    for listed in iter_archive(config.clips):
        part = listed if since_s is None else changed_since(listed, since_s)
        for clip in part.clips:
            num_clips += 1
            if clip.video_uri != last:  # the clips of one video follow each other
                last = clip.video_uri
                num_videos += 1
                num_bytes += _num_bytes(part, last)
            if len(sample) < num:
                sample.append(clip)
            elif (place := rng.randrange(num_clips)) < num:
                sample[place] = clip
    if not sample:
        raise ValueError(
            f"no video of {config.clips!r} changed since {config.since!r}; give another --since"
        )
    rng.shuffle(sample)
    spans = [clip_duration_s(clip.video_uri, clip.start_s, clip.end_s) for clip in sample]
    known_s = [seconds for seconds in spans if seconds is not None]
    hours = sum(known_s) / len(known_s) * num_clips / 3600 if known_s else None
    return sample, ArchiveSize(videos=num_videos, clips=num_clips, bytes=num_bytes, hours=hours)


def _num_bytes(part: Archive, uri: str) -> int:
    """0 where neither the list nor the file system tells."""
    if is_remote(uri):
        stamp = part.stamps.get(uri)
        return stamp.size_bytes if stamp else 0
    try:
        return path_of(uri).stat().st_size
    except OSError:
        return 0


@contextmanager
def _scratch(config: IndexConfig) -> Iterator[IndexConfig]:
    """The same settings for a run folder and a collection of their own, which are gone after the block."""
    # In the run folder's place: where a run's files may lie, which several nodes must share.
    config.run_dir.mkdir(parents=True, exist_ok=True)
    with scratch_folder(config.run_dir, "dry-run-") as folder:
        has_server = not is_lite(config.milvus_uri)
        scratch = replace(
            config,
            run_dir=folder,
            milvus_uri=config.milvus_uri if has_server else str(folder / "milvus"),
            collection=f"{config.collection}_dry_run_{os.getpid()}",
            recompute=0,
            archive=None,
            bulk_import="",
            since="",
        )
        try:
            yield scratch
        finally:
            if has_server:
                with open_collection(scratch.milvus_uri, scratch.collection) as collection:
                    if collection.exists():
                        collection.drop()


def _run(scratch: IndexConfig, clips: Sequence[Clip], console: Console) -> MeasuredRun:
    folder = scratch.run_dir / str(len(clips))
    clips_path = folder / "clips.parquet"
    folder.mkdir()
    write_clips(clips_path, clips)
    config = replace(
        scratch,
        clips=str(clips_path),
        run_dir=folder,
        archive=str(len(clips)),
        fetch=replace(
            scratch.fetch, cache_dir=folder / "cache"
        ),  # an empty one: a fetch is a fetch
    )
    index_archive(config, console=console)
    return measured_run(folder / SUMMARY)
