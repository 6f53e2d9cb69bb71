"""tfcovr verify: compare the collection with the ledger and the archive."""

import json
import sys

from indexing.pipeline.config import VerifyConfig as Config

EXAMPLES = """
  tfcovr verify --bundle runs/demo/stage2/bundle --clips runs/demo/archive/clips.parquet \\
      --milvus-uri runs/demo/milvus --run-dir runs/demo/index
  tfcovr verify ... --recompute 64
  tfcovr verify ... --repair
"""


def run(config: Config) -> int:
    """Print the counts; 0 when every fault is 0 and nothing is unread, otherwise 1."""
    from indexing.pipeline.verify import NUM_SHOWN, repair_archive, verify_archive

    verification = verify_archive(config)
    before = verification.unread(config.run_dir)  # a repair makes dead letters of them
    if config.repair and any(verification.faults().values()):
        repaired = ", ".join(
            f"{len(names)} {kind}" for kind, names in verification.faults().items()
        )
        sys.stderr.write(f"repairing {repaired}\n")
        repair_archive(config, verification)
        verification = verify_archive(config)
    compared = verification.comparison
    problems = {
        planned_clip.clip.clip_id: planned_clip.problem for planned_clip in compared.unreadable
    }
    still = {*before, *verification.unread(config.run_dir)}
    if not (compared.present or compared.missing or compared.dead):
        still |= problems.keys()  # no dead letter explains that not one video can be read
    by_kind = verification.faults() | {
        "unread": [clip_id for clip_id in problems if clip_id in still]
    }
    is_right = not any(by_kind.values())
    counts = {
        "present": len(compared.present),
        "dead": len(compared.dead),
        "unreadable": len(compared.unreadable),
        **{kind: len(names) for kind, names in by_kind.items()},
    }
    if config.json:
        sys.stdout.write(json.dumps({"is_right": is_right, **counts, "clips": by_kind}) + "\n")
        return 0 if is_right else 1
    sys.stdout.write(", ".join(f"{count} {kind}" for kind, count in counts.items()) + "\n")
    for kind, names in by_kind.items():
        if names:
            more = " ..." if len(names) > NUM_SHOWN else ""
            sys.stdout.write(f"{kind}: {', '.join(names[:NUM_SHOWN])}{more}\n")
    if verification.recomputed:
        sys.stdout.write(f"{verification.recomputed.line()}\n")
    if any(verification.faults().values()):
        sys.stdout.write("repair it with the same command and --repair\n")
    if by_kind["unread"]:
        sys.stdout.write(
            f"unread: {problems[by_kind['unread'][0]]}\nverify again when the videos can be read; `tfcovr index` makes those "
            "that it cannot read dead letters\n"
        )
    return 0 if is_right else 1
