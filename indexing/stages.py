"""The stages of indexing as pools of workers: fetch (where videos are remote), decode, embed (or both in one), write."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cluster.dataflow import Stage
from encoders.card import BundleCard
from encoders.encode_request import EncodeRequest
from indexing.config import IndexConfig
from indexing.decode import ArchiveDecodeStage, ArchiveVectorStage
from indexing.embed import CheckedEmbedStage
from indexing.fetch import FetchStage
from indexing.resources import Workers
from indexing.write import WriteStage


def index_stages(
    config: IndexConfig,
    card: BundleCard,
    workers: Workers,
    *,
    write_arguments: Mapping[str, Any],
    num_remote: int,
) -> list[Stage]:
    """`write_arguments` say where the rows go; `num_remote` videos have to be fetched."""
    fetch = Stage(
        name="fetch",
        factory=FetchStage,
        arguments={"options": config.fetch},
        kind="rows",
        num_workers=max(min(config.fetch.num_workers, num_remote), 1),
        num_cpus=0.0,
    )
    decode = Stage(
        name="decode",
        factory=ArchiveDecodeStage,
        arguments={
            "sampling": card.sampling,
            "backend": workers.decode_backend,
            "device": workers.decode_device,
            "deadline_s": config.decode_deadline_s,
            "fetch": config.fetch,
        },
        kind="rows",
        num_workers=workers.num_decode,
        num_cpus=workers.cpus_per_decode,
        num_gpus=workers.gpus_per_decode,
    )
    bundle_dir = str(config.bundle_dir.resolve())
    embed = Stage(
        name="embed",
        factory=CheckedEmbedStage,
        arguments={
            "bundle_dir": bundle_dir,
            "backend": config.backend,
            "device": workers.embed_device,
        },
        num_workers=workers.num_embed,
        num_cpus=workers.cpus_per_embed,
        num_gpus=workers.gpus_per_embed,
        batch_size=config.batch_size,
    )
    encode = EncodeRequest(
        bundle_dir=bundle_dir,
        backend=config.backend,
        num_threads=1,
        batch_size=config.batch_size,
    )
    both = replace(
        decode,
        name="decode_embed",
        factory=ArchiveVectorStage,
        arguments={**decode.arguments, "encode": encode, "device": workers.embed_device},
    )
    return [
        *([fetch] if num_remote else []),
        *([both] if workers.is_shared else [decode, embed]),
        Stage(
            name="write",
            factory=WriteStage,
            arguments={
                "collection": config.collection,
                "encoder_id": card.encoder_id,
                **write_arguments,
            },
            num_workers=workers.num_write,
            num_cpus=0.0,
            batch_size=max(config.batch_size, 32),
        ),
    ]
