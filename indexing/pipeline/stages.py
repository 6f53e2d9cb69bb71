"""The stages of indexing as pools of workers: fetch (where videos are remote), decode, embed (or both in one), write."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cluster.dataflow import Stage
from encoders.bundle.card import BundleCard
from encoders.stages.embed_stage import CheckedEmbedStage
from encoders.stages.encode_request import EncoderOptions
from indexing.pipeline.config import IndexConfig
from indexing.pipeline.decode_stage import ArchiveDecodeStage, ArchiveVectorStage
from indexing.pipeline.fetch_stage import FetchStage
from indexing.pipeline.workers import Workers, clips_per_batch, videos_per_group
from indexing.pipeline.write_stage import WriteStage
from indexing.sources.uris import is_remote


def index_stages(
    config: IndexConfig,
    card: BundleCard,
    workers: Workers,
    *,
    shards: Sequence[Mapping[str, Any]],
    write_arguments: Mapping[str, Any],
) -> list[Stage]:
    """For these shards; `write_arguments` say where the rows go."""
    num_remote = sum(is_remote(shard["video_uri"]) for shard in shards)
    num_clips = sum(len(shard["clip_ids"]) for shard in shards)
    batch_size = config.batch_size or clips_per_batch(card.sampling, workers, num_clips)
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
    bundle_dir = str(config.bundle.resolve())
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
        batch_size=batch_size,
    )
    encode = EncoderOptions(
        bundle_dir=bundle_dir,
        backend=config.backend,
        num_threads=1,
        batch_size=batch_size,
    )
    both = replace(
        decode,
        name="decode_embed",
        factory=ArchiveVectorStage,
        arguments={**decode.arguments, "encode": encode, "device": workers.embed_device},
        kind="groups",
        batch_size=videos_per_group(batch_size, workers, num_clips, len(shards)),
    )
    return [
        *([fetch] if num_remote else []),
        *([both] if workers.is_shared else [decode, embed]),
        Stage(
            name="write",
            factory=WriteStage,
            arguments={"encoder_id": card.encoder_id, **write_arguments},
            num_workers=workers.num_write,
            num_cpus=0.0,
            batch_size=max(batch_size, 32),
        ),
    ]
