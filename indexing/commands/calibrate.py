"""tfcovr calibrate: the score below which nothing matches, from validation triplets."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from indexing.search.threshold import AbstainThreshold, Verdicts

EXAMPLES = """
  tfcovr calibrate --bundle runs/demo/stage2/bundle --milvus-uri runs/demo/milvus \\
      --triplets runs/demo/triplets.parquet --out runs/demo/threshold.json
"""
_BATCH = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Fit the score below which a search says that nothing matches."""

    bundle: Path
    milvus_uri: str
    triplets: Path
    """triplets.parquet; the clips of both splits must be in the collection."""
    out: Path
    collection: str = "clips"
    fit_split: str = "val"
    measure_split: str = "test"
    num_queries: int = 400
    """Of each split, evenly drawn."""
    min_precision: float = 0.9
    """Least precision of saying that nothing matches."""

    def __post_init__(self) -> None:
        if self.num_queries < 10 or not 0 < self.min_precision <= 1:
            raise ValueError(
                f"num_queries is {self.num_queries} (at least 10), min_precision is "
                f"{self.min_precision} (above 0, at most 1)"
            )


def measure(client: Any, triplets: Sequence[dict[str, Any]], *, split: str) -> "Verdicts":
    """Ask in the gallery of one split, with the targets and without clips of the target label."""
    import numpy as np

    from indexing.search.threshold import Verdicts
    from indexing.search.types import ComposedQuery

    best: dict[bool, list[float]] = {True: [], False: []}
    labels = list(client.snapshot.labels)
    for first in range(0, len(triplets), _BATCH):
        part = triplets[first : first + _BATCH]
        for with_targets in (True, False):
            queries = [
                ComposedQuery(
                    clip=triplet["query_clip_id"],
                    edits=(triplet["edit_text"],),
                    limit=1,
                    filters={"split": split}
                    if with_targets
                    else {
                        "split": split,
                        "label": [label for label in labels if label != triplet["target_label"]],
                    },
                )
                for triplet in part
            ]
            for result in client.search_many(queries):
                best[with_targets].append(result.hits[0].score if result.hits else -1.0)
    return Verdicts(with_targets=np.array(best[True]), without_targets=np.array(best[False]))


def calibrate(config: Config) -> "AbstainThreshold":
    """Fit on one split, measure on the other, write the file."""
    from cluster.storage import write_atomic
    from encoders.files import read_table
    from indexing.search.client import SearchClient
    from indexing.search.threshold import AbstainThreshold

    columns = ["query_clip_id", "edit_text", "target_label", "split"]
    rows = read_table(config.triplets, columns).to_pylist()
    verdicts = {}
    with SearchClient(config.milvus_uri, config.collection, config.bundle) as client:
        for split in (config.fit_split, config.measure_split):
            known = [row for row in rows if row["split"] == split]
            if len(known) < 10:
                raise ValueError(f"{config.triplets}: split {split!r} has {len(known)} triplets")
            step = max(1, len(known) // config.num_queries)
            drawn = known[::step][: config.num_queries]
            verdicts[split] = measure(client, drawn, split=split)
        card = client.card
    min_score = verdicts[config.fit_split].best_threshold(config.min_precision)
    measured = verdicts[config.measure_split]
    precision, recall = measured.precision_recall(min_score)
    threshold = AbstainThreshold(
        min_score=min_score,
        encoder_id=card.encoder_id,
        bundle_id=card.bundle_id,
        split=config.measure_split,
        precision=precision,
        recall=recall,
        num_queries=len(measured.with_targets),
    )
    write_atomic(config.out, json.dumps(asdict(threshold), indent=1).encode())
    return threshold


def run(config: Config) -> int:
    """Print the threshold and what it reaches."""
    threshold = calibrate(config)
    sys.stdout.write(
        f"nothing matches below {threshold.min_score:.3f}: precision {threshold.precision:.3f}, recall "
        f"{threshold.recall:.3f} on {threshold.num_queries} queries of split {threshold.split!r}; {config.out}\n"
    )
    return 0
