"""The stages of indexing as pools of workers: fetch (where videos are remote), decode, embed (or both in one), write."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cluster.dataflow import Stage
from encoders.bundle.card import BundleCard
from encoders.media.container import MediaLimits
from encoders.stages.embed_stage import CheckedEmbedStage
from encoders.stages.encode_request import EncoderOptions
from indexing.pipeline.config import IndexConfig
from indexing.pipeline.decode_stage import ArchiveDecodeStage, ArchiveVectorStage
from indexing.pipeline.shards import Work
from indexing.pipeline.workers import LIGHT_CPUS, Workers, clips_per_batch, videos_per_group
from indexing.pipeline.write_stage import WriteStage
from indexing.sources.fetch_cache import FetchOptions
from indexing.sources.fetch_stage import FetchStage

_LIGHT = 0.01
"""Cores of a worker that mostly waits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorOptions:
    """How clips become vectors, for whoever needs them."""

    bundle_dir: str
    card: BundleCard
    backend: str
    batch_size: int
    """Clips that are embedded at once; 0 = choose."""
    decode_deadline_s: float
    limits: MediaLimits
    fetch: FetchOptions

    def clips_per_batch(self, workers: Workers, work: Work) -> int:
        """The batch size, chosen for this work where it is 0."""
        return self.batch_size or clips_per_batch(self.card.sampling, workers, work.num_clips)


def vector_options(config: IndexConfig, card: BundleCard) -> VectorOptions:
    """The part of the settings that makes vectors."""
    return VectorOptions(
        bundle_dir=str(config.bundle.resolve()),
        card=card,
        backend=config.backend,
        batch_size=config.batch_size,
        decode_deadline_s=config.decode_deadline_s,
        limits=config.limits,
        fetch=config.fetch,
    )


def vector_stages(options: VectorOptions, workers: Workers, work: Work) -> list[Stage]:
    """From shards to rows with an `embedding` or an error."""
    batch_size = options.clips_per_batch(workers, work)
    fetch = Stage(
        name="fetch",
        factory=FetchStage,
        arguments={"options": options.fetch},
        kind="rows",
        num_workers=max(min(options.fetch.num_workers * workers.num_nodes, work.num_remote), 1),
        num_cpus=min(_LIGHT, LIGHT_CPUS / 2 / options.fetch.num_workers),
        is_spread=True,
    )
    decode = Stage(
        name="decode",
        factory=ArchiveDecodeStage,
        arguments={
            "sampling": options.card.sampling,
            "backend": workers.decode_backend,
            "device": workers.decode_device,
            "deadline_s": options.decode_deadline_s,
            "limits": options.limits,
            "fetch": options.fetch,
        },
        kind="rows",
        num_workers=workers.num_decode,
        num_cpus=workers.cpus_per_decode,
        num_gpus=workers.gpus_per_decode,
    )
    embed = Stage(
        name="embed",
        factory=CheckedEmbedStage,
        arguments={
            "bundle_dir": options.bundle_dir,
            "backend": options.backend,
            "device": workers.embed_device,
        },
        num_workers=workers.num_embed,
        num_cpus=workers.cpus_per_embed,
        num_gpus=workers.gpus_per_embed,
        batch_size=batch_size,
    )
    encode = EncoderOptions(
        bundle_dir=options.bundle_dir,
        backend=options.backend,
        num_threads=1,
        batch_size=batch_size,
    )
    if workers.can_grow:
        decode, embed = (
            replace(stage, min_workers=1, max_workers=max(stage.num_workers, work.num_shards))
            for stage in (decode, embed)
        )
    both = replace(
        decode,
        name="decode_embed",
        factory=ArchiveVectorStage,
        arguments={**decode.arguments, "encode": encode, "device": workers.embed_device},
        kind="groups",
        batch_size=videos_per_group(batch_size, workers, work.num_clips, work.num_shards),
    )
    return [
        *([fetch] if work.num_remote else []),
        *([both] if workers.is_shared else [decode, embed]),
    ]


def write_stage(
    options: VectorOptions, workers: Workers, work: Work, *, arguments: Mapping[str, Any]
) -> Stage:
    """The last stage of indexing; `arguments` are those of WriteStage but for the encoder."""
    return Stage(
        name="write",
        factory=WriteStage,
        arguments={"encoder_id": options.card.encoder_id, **arguments},
        num_workers=workers.num_write,
        num_cpus=min(_LIGHT, LIGHT_CPUS / 4 * workers.num_nodes / workers.num_write),
        is_spread=True,
        batch_size=max(options.clips_per_batch(workers, work), 32),
    )
