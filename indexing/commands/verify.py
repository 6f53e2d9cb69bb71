"""tfcovr verify: compare the collection with the ledger and the archive."""

import json
import sys
from dataclasses import replace

from cluster.telemetry import say
from indexing.pipeline.config import VerifyConfig as Config

_NUM_SHOWN = 5
EXAMPLES = """
  tfcovr verify --bundle runs/demo/stage2/bundle --clips runs/demo/archive/clips.parquet \\
      --milvus-uri runs/demo/milvus --run-dir runs/demo/index
  tfcovr verify ... --recompute 64
  tfcovr verify ... --repair
"""


def run(config: Config) -> int:
    """Print the counts; 0 when every fault is 0 and nothing is unread, otherwise 1."""
    from indexing.pipeline.verify import repair_archive, verify_archive

    verification = verify_archive(config)
    before = verification.faults["unread"]  # a repair makes dead letters of them
    if config.repair and verification.has_repairs:
        repaired = ", ".join(
            f"{fault.count} {kind}"
            for kind, fault in verification.faults.items()
            if kind != "unread"
        )
        say(f"repairing {repaired}")
        why_unread = verification.why_unread
        repair_archive(config, verification)
        verification = verify_archive(config)
        unread = max(before, verification.faults["unread"], key=lambda fault: fault.count)
        verification = replace(
            verification,
            faults=verification.faults | {"unread": unread},
            why_unread=verification.why_unread or why_unread,
        )
    counts = {
        "present": verification.present,
        "dead": verification.dead,
        "unreadable": verification.unreadable,
        **{kind: fault.count for kind, fault in verification.faults.items()},
    }
    if config.json:
        clips = {kind: fault.clip_ids for kind, fault in verification.faults.items()}
        shown = {"is_right": verification.is_right, **counts, "clips": clips}
        sys.stdout.write(json.dumps(shown) + "\n")
        return 0 if verification.is_right else 1
    sys.stdout.write(", ".join(f"{count} {kind}" for kind, count in counts.items()) + "\n")
    for kind, fault in verification.faults.items():
        if fault.count:
            more = " ..." if fault.count > _NUM_SHOWN else ""
            sys.stdout.write(f"{kind}: {', '.join(fault.clip_ids[:_NUM_SHOWN])}{more}\n")
    if verification.recomputed:
        sys.stdout.write(f"{verification.recomputed.line()}\n")
    if verification.has_repairs:
        sys.stdout.write("repair it with the same command and --repair\n")
    if verification.faults["unread"].count:
        sys.stdout.write(
            f"unread: {verification.why_unread}\nverify again when the videos can be read; `tfcovr index` makes those "
            "that it cannot read dead letters\n"
        )
    return 0 if verification.is_right else 1
