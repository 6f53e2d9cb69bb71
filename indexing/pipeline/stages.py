"""The stages of indexing as pools of workers: fetch (where videos are remote), decode, embed (or both in one), write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.dataflow import Stage
from encoders.bundle.card import BundleCard
from encoders.media.container import MediaLimits
from encoders.stages.embed_stage import CheckedEmbedStage
from encoders.stages.encode_request import EncoderOptions
from indexing.pipeline.config import IndexConfig
from indexing.pipeline.decode_stage import ArchiveDecodeStage, ArchiveVectorStage
from indexing.pipeline.workers import Workers, clips_per_batch, videos_per_group
from indexing.pipeline.write_stage import WriteStage
from indexing.sources.fetch_cache import FetchOptions
from indexing.sources.fetch_stage import FetchStage
from indexing.sources.uris import is_remote


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

    def clips_per_batch(self, workers: Workers, shards: Sequence[Mapping[str, Any]]) -> int:
        """The batch size, chosen for these shards where it is 0."""
        return self.batch_size or clips_per_batch(self.card.sampling, workers, _num_clips(shards))


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


def vector_stages(
    options: VectorOptions, workers: Workers, *, shards: Sequence[Mapping[str, Any]]
) -> list[Stage]:
    """From these shards to rows with an `embedding` or an error."""
    num_remote = sum(is_remote(shard["video_uri"]) for shard in shards)
    num_clips, batch_size = _num_clips(shards), options.clips_per_batch(workers, shards)
    fetch = Stage(
        name="fetch",
        factory=FetchStage,
        arguments={"options": options.fetch},
        kind="rows",
        num_workers=max(min(options.fetch.num_workers, num_remote), 1),
        num_cpus=0.0,
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
            replace(stage, min_workers=1, max_workers=max(stage.num_workers, len(shards)))
            for stage in (decode, embed)
        )
    both = replace(
        decode,
        name="decode_embed",
        factory=ArchiveVectorStage,
        arguments={**decode.arguments, "encode": encode, "device": workers.embed_device},
        kind="groups",
        batch_size=videos_per_group(batch_size, workers, num_clips, len(shards)),
    )
    return [*([fetch] if num_remote else []), *([both] if workers.is_shared else [decode, embed])]


def write_stage(
    options: VectorOptions,
    workers: Workers,
    *,
    shards: Sequence[Mapping[str, Any]],
    arguments: Mapping[str, Any],
) -> Stage:
    """The last stage of indexing; `arguments` are those of WriteStage but for the encoder."""
    return Stage(
        name="write",
        factory=WriteStage,
        arguments={"encoder_id": options.card.encoder_id, **arguments},
        num_workers=workers.num_write,
        num_cpus=0.0,
        batch_size=max(options.clips_per_batch(workers, shards), 32),
    )


def _num_clips(shards: Sequence[Mapping[str, Any]]) -> int:
    return sum(len(shard["clip_ids"]) for shard in shards)
