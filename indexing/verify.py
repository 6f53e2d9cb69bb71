"""Does the collection hold exactly what the archive must have? Status 0 only when nothing is wrong."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from encoders.card import read_card
from indexing.compare import Comparison, compare
from indexing.content import read_contents
from indexing.ledger import Ledger
from indexing.milvus import open_collection
from indexing.plan import list_clips, plan_clips

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
    json: bool = False
    """Print the counts as JSON."""


def verify_archive(config: VerifyConfig) -> Comparison:
    """Reads only; raises when the collection is missing or of another encoder."""
    card = read_card(config.bundle_dir)
    ledger = Ledger(config.run_dir)
    clips = list_clips(config.clips)
    known = {} if config.read_all else ledger.read_contents()
    contents = read_contents((clip.video_uri for clip in clips), known)
    planned = plan_clips(clips, contents, encoder_id=card.encoder_id)
    with open_collection(config.milvus_uri, config.collection) as collection:
        collection.check(encoder_id=card.encoder_id)
        stored = [(row["clip_key"], row["clip_id"]) for row in collection.rows()]
    return compare(planned, stored, dead_keys=ledger.dead_keys())


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
        sys.stdout.write("run the same `tfcovr index` again (with --prune for orphaned rows)\n")
    return 0 if is_right else 1


if __name__ == "__main__":
    raise SystemExit(main())
