"""Does the collection hold exactly what the archive must have? Status 0 only when nothing is wrong."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from encoders.card import read_card
from indexing.archive import list_archive
from indexing.compare import Comparison, compare
from indexing.config import CONFIG, IndexConfig, read_config
from indexing.content import read_contents
from indexing.ledger import Ledger
from indexing.milvus import open_collection
from indexing.milvus_server import require_archive
from indexing.pipeline import index_archive
from indexing.plan import plan_clips

_NUM_SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyConfig:
    """Compare a collection with its archive by key: missing, duplicate, stale, orphaned."""

    bundle_dir: Path
    """Bundle that indexed the archive."""
    clips: str
    """The clips.parquet, or folder or glob of videos, that was indexed."""
    milvus_uri: str
    """A folder (Milvus Lite) or http://HOST:19530."""
    run_dir: Path
    """Run folder of the indexing, for its dead letters."""
    collection: str = "clips"
    read_all: bool = False
    """Read every byte of every video, also of those whose size and time have not changed."""
    repair: bool = False
    """Index what is missing and delete what is duplicate, stale or orphaned; then verify again."""
    json: bool = False
    """Print the counts as JSON."""


def verify_archive(config: VerifyConfig) -> Comparison:
    """Reads only; raises when the collection is missing or of another encoder."""
    require_archive(config.milvus_uri)
    card = read_card(config.bundle_dir)
    ledger = Ledger(config.run_dir)
    archive = list_archive(config.clips)
    known = {} if config.read_all else ledger.read_contents()
    uris = (clip.video_uri for clip in archive.clips)
    contents = read_contents(uris, known, fetch_uris=archive.fetch_uris)
    planned = plan_clips(archive.clips, contents, encoder_id=card.encoder_id)
    with open_collection(config.milvus_uri, config.collection) as collection:
        collection.check(encoder_id=card.encoder_id)
        stored = [(row["clip_key"], row["clip_id"]) for row in collection.rows()]
    return compare(planned, stored, dead_keys=ledger.dead_keys())


def repair_archive(config: VerifyConfig, found: Comparison) -> None:
    """Mends exactly what is wrong. Killed in between, it or `tfcovr index` goes on from there.

    A key with several rows loses all of them and is indexed again: which of them is right cannot be known.
    """
    card = read_card(config.bundle_dir)
    if found.duplicate:
        with open_collection(config.milvus_uri, config.collection) as collection:
            collection.check(encoder_id=card.encoder_id)
            collection.delete(found.duplicate)
            collection.flush()
    settings: dict[str, Any] = {}
    if (config.run_dir / CONFIG).exists():
        earlier = read_config(config.run_dir)
        settings = {name: getattr(earlier, name) for name in ("backend", "batch_size", "workers")}
    index_archive(
        IndexConfig(
            bundle_dir=config.bundle_dir,
            clips=config.clips,
            milvus_uri=config.milvus_uri,
            run_dir=config.run_dir,
            collection=config.collection,
            prune=True,
            **settings,
        )
    )


def faults(found: Comparison) -> dict[str, list[str]]:
    """Clip ids (keys where they say more) by kind of fault."""
    return {
        "missing": [one.clip.clip_id for one in found.missing],
        "duplicate": list(found.duplicate),
        "stale": sorted(found.stale),
        "orphaned": sorted(set(found.orphaned.values())),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the counts; 0 when every fault is 0, otherwise 1."""
    config = tyro.cli(
        VerifyConfig, args=argv, prog="tfcovr verify", description=VerifyConfig.__doc__
    )
    found = verify_archive(config)
    if config.repair and any(faults(found).values()):
        repaired = ", ".join(f"{len(names)} {kind}" for kind, names in faults(found).items())
        sys.stderr.write(f"repairing {repaired}\n")
        repair_archive(config, found)
        found = verify_archive(config)
    by_kind = faults(found)
    is_right = not any(by_kind.values())
    counts = {
        "present": len(found.present),
        "dead": len(found.dead),
        "unreadable": len(found.unreadable),
        **{kind: len(names) for kind, names in by_kind.items()},
    }
    if config.json:
        sys.stdout.write(json.dumps({"is_right": is_right, **counts, "clips": by_kind}) + "\n")
        return 0 if is_right else 1
    sys.stdout.write(", ".join(f"{count} {kind}" for kind, count in counts.items()) + "\n")
    for kind, names in by_kind.items():
        if names:
            more = " ..." if len(names) > _NUM_SHOWN else ""
            sys.stdout.write(f"{kind}: {', '.join(names[:_NUM_SHOWN])}{more}\n")
    if not is_right:
        sys.stdout.write("mend it with the same command and --repair\n")
    return 0 if is_right else 1


if __name__ == "__main__":
    raise SystemExit(main())
