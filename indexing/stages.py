"""The stages of indexing as pools of workers: decode, embed, write."""

from pathlib import Path

from cluster.dataflow import Stage
from encoders.card import BundleCard
from encoders.stages import DecodeStage
from indexing.config import IndexConfig
from indexing.embed import CheckedEmbedStage
from indexing.resources import Workers
from indexing.write import WriteStage


def index_stages(
    config: IndexConfig, card: BundleCard, workers: Workers, *, address: str, clips_path: Path
) -> list[Stage]:
    """`address` is where the workers reach Milvus, `clips_path` the clips of this run."""
    return [
        Stage(
            name="decode",
            factory=DecodeStage,
            arguments={
                "sampling": card.sampling,
                "backend": workers.decode_backend,
                "device": workers.decode_device,
                "deadline_s": config.decode_deadline_s,
            },
            kind="rows",
            num_workers=workers.num_decode,
            num_cpus=workers.cpus_per_decode,
            num_gpus=workers.gpus_per_decode,
        ),
        Stage(
            name="embed",
            factory=CheckedEmbedStage,
            arguments={
                "bundle_dir": str(config.bundle_dir.resolve()),
                "backend": config.backend,
                "device": workers.embed_device,
            },
            num_workers=workers.num_embed,
            num_cpus=workers.cpus_per_embed,
            num_gpus=workers.gpus_per_embed,
            batch_size=config.batch_size,
        ),
        Stage(
            name="write",
            factory=WriteStage,
            arguments={
                "address": address,
                "collection": config.collection,
                "clips_path": str(clips_path.resolve()),
                "encoder_id": card.encoder_id,
                "precision": "float32",
            },
            num_workers=workers.num_write,
            num_cpus=0.0,
            batch_size=max(config.batch_size, 32),
        ),
    ]
