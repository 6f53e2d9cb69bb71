"""A watch of one archive from the command to its end: run folder, encoder, collection and lease, opened once and kept."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from threading import Event

from rich.console import Console

from cluster.machine import describe_machine
from cluster.processes import own_run_folder
from encoders.bundle.canaries import read_canaries
from encoders.bundle.card import BundleCard, read_card
from encoders.decoding.backends import choose_decode_backend
from encoders.media.container import MediaLimits
from encoders.stages.encode_request import EncoderOptions
from indexing.ledger.archives import mark_changes, open_archive
from indexing.ledger.ledger import Ledger
from indexing.pipeline.config import IndexConfig, archive_request, earlier_settings, write_config
from indexing.pipeline.decode_stage import ArchiveVectorStage
from indexing.pipeline.stages import vector_options
from indexing.sources.uris import public_uri
from indexing.sources.watching.config import WatchConfig
from indexing.sources.watching.follower import Follower
from indexing.sources.watching.places import open_place
from indexing.sources.watching.watcher import Watch
from indexing.store.bulk_import import finish_earlier_import
from indexing.store.collection import open_collection
from indexing.store.endpoint import is_lite
from indexing.store.transfer.index_swap import ensure_index, hold_collection
from indexing.store.vector_index import choose_index

_BATCH = 8
_TRACK_S = 4.0


def watch_archive(
    config: WatchConfig, *, console: Console | None = None, is_stopped: Event | None = None
) -> None:
    """Until it is stopped, or interrupted. Raises for a broken setup, at once."""
    console = console or Console(quiet=True)
    card = read_card(config.bundle)
    read_canaries(config.bundle)
    place = open_place(config.videos, poll_s=config.poll_s)
    given = {} if config.limits == MediaLimits() else {"limits": config.limits}
    index = earlier_settings(
        config.run_dir,
        **given,
        bundle=config.bundle,
        clips=config.videos,
        milvus_uri=config.milvus_uri,
        collection=config.collection,
        archive=config.archive,
        bulk_import="",
    )

    def say(text: str) -> None:
        console.log(text, highlight=False, markup=False)

    with (
        own_run_folder(config.run_dir, track_s=_TRACK_S),
        Ledger(config.run_dir) as ledger,
        _follower(index, card, ledger) as follower,
    ):
        watch = Watch(place, follower, config.rules, say=say)
        say(f"watching {public_uri(config.videos)}: {follower.num_rows()} rows")
        watch.follow(is_stopped or Event())


@contextmanager
def _follower(index: IndexConfig, card: BundleCard, ledger: Ledger) -> Iterator[Follower]:
    with ExitStack() as stack:
        # Its process starts before gRPC has threads.
        stage = stack.enter_context(closing(_stage(index, card)))
        collection = stack.enter_context(open_collection(index.milvus_uri, index.collection))
        lite = is_lite(index.milvus_uri)
        collection.create_or_check(
            encoder_id=card.encoder_id,
            embedding_dim=card.embedding_dim,
            vector_dtype=index.vector_dtype,
            index_type=choose_index(index.index, 0, is_lite=lite),
        )
        archive = open_archive(collection, archive_request(index))
        held = hold_collection(collection, archive.name, encoder_id=card.encoder_id)
        lease = stack.enter_context(held)
        write_config(replace(index, archive=archive.name))
        mark_changes(collection, archive, ledger, trusts=True)
        finish_earlier_import(collection, index.run_dir)
        ensure_index(collection, index.index, is_lite=lite, lease=lease)
        follower = Follower(
            collection,
            ledger,
            encoder_id=card.encoder_id,
            archive=archive,
            encode=stage,
            check=lease.check,
        )
        yield follower


def _stage(index: IndexConfig, card: BundleCard) -> ArchiveVectorStage:
    """Decodes and encodes in one process, which stays."""
    has_gpu = index.workers.device != "cpu" and bool(describe_machine().gpus)
    device = "cuda" if has_gpu else "cpu"
    options = vector_options(index, card)
    return ArchiveVectorStage(
        sampling=card.sampling,
        fetch=options.fetch,
        backend=choose_decode_backend(index.workers.decode, device),
        device=device,
        deadline_s=options.decode_deadline_s,
        limits=options.limits,
        encode=EncoderOptions(
            bundle_dir=options.bundle_dir,
            backend=options.backend,
            num_threads=1,
            batch_size=options.batch_size or _BATCH,
        ),
    )
