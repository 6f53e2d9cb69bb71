"""Is there anything in the archive that matches? A threshold on the best score, fitted on validation triplets.

Each triplet is asked twice: as it is, and with all of its targets taken out of the gallery. The threshold is the one of the best
F1 among those whose precision is high enough; what it reaches on triplets that it was not fitted on is kept beside it.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from indexing.search_types import ComposedQuery, Hit

MIN_PRECISION = 0.9
_BATCH = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class AbstainThreshold:
    """ "Nothing matches" is said below `min_score`; precision and recall are those of saying it."""

    min_score: float
    encoder_id: str
    bundle_id: str
    split: str
    """Measured on this split; fitted on another."""
    precision: float
    recall: float
    num_queries: int

    def has_match(self, hits: Sequence[Hit]) -> bool:
        """Whether the best cosine with the composed query is high enough."""
        return max((hit.from_clip + hit.from_edit for hit in hits), default=-1.0) >= self.min_score


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdicts:
    """Best scores of the same queries with and without their targets."""

    with_targets: np.ndarray
    without_targets: np.ndarray

    def precision_recall(self, min_score: float) -> tuple[float, float]:
        """Of saying "nothing matches" below this score; precision is 1 when it is never said."""
        right = int((self.without_targets < min_score).sum())
        wrong = int((self.with_targets < min_score).sum())
        precision = right / (right + wrong) if right + wrong else 1.0
        return precision, right / len(self.without_targets)

    def best_threshold(self, min_precision: float = MIN_PRECISION) -> float:
        """The highest F1 among scores of at least this precision; ValueError where no score reaches it."""
        scores = np.unique(np.concatenate([self.with_targets, self.without_targets]))
        middles = (scores[1:] + scores[:-1]) / 2

        def f1(score: float) -> float:
            precision, recall = self.precision_recall(score)
            return 2 * precision * recall / max(precision + recall, 1e-12)

        good = [s for s in middles if self.precision_recall(s)[0] >= min_precision]
        if not good or max(map(f1, good)) == 0:
            raise ValueError(f"no threshold says 'nothing matches' with precision {min_precision}")
        return float(max(good, key=f1))


def read_threshold(path: Path, *, encoder_id: str, bundle_id: str) -> AbstainThreshold:
    """ValueError for a file of another bundle."""
    try:
        threshold = AbstainThreshold(**json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is no threshold of `tfcovr calibrate`: {error}") from error
    if (threshold.encoder_id, threshold.bundle_id) != (encoder_id, bundle_id):
        raise ValueError(
            f"{path} was fitted for bundle {threshold.bundle_id!r}, and this is {bundle_id!r}; run "
            "`tfcovr calibrate` again"
        )
    return threshold


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrateConfig:
    """Fit the score below which a search says that nothing matches.

    Example: tfcovr calibrate --bundle-dir runs/demo/stage2/bundle --milvus-uri runs/demo/milvus \\
      --triplets runs/demo/triplets.parquet --out runs/demo/threshold.json
    """

    bundle_dir: Path
    milvus_uri: str
    triplets: Path
    """triplets.parquet; the clips of both splits must be in the collection."""
    out: Path
    collection: str = "clips"
    fit_split: str = "val"
    measure_split: str = "test"
    num_queries: int = 400
    """Of each split, evenly drawn."""
    min_precision: Annotated[float, "of saying that nothing matches"] = MIN_PRECISION

    def __post_init__(self) -> None:
        if self.num_queries < 10 or not 0 < self.min_precision <= 1:
            raise ValueError(
                f"num_queries is {self.num_queries} (at least 10), min_precision is "
                f"{self.min_precision} (above 0, at most 1)"
            )


def measure(client: Any, triplets: Sequence[dict[str, Any]], *, split: str) -> Verdicts:
    """Ask in the gallery of one split, with the targets and without clips of the target label."""
    best: dict[bool, list[float]] = {True: [], False: []}
    labels = list(client.archive.labels)
    for first in range(0, len(triplets), _BATCH):
        part = triplets[first : first + _BATCH]
        for with_targets in (True, False):
            queries = [
                ComposedQuery(
                    clip=one["query_clip_id"],
                    edits=(one["edit_text"],),
                    limit=1,
                    filters={"split": split}
                    if with_targets
                    else {
                        "split": split,
                        "label": [label for label in labels if label != one["target_label"]],
                    },
                )
                for one in part
            ]
            for result in client.search_many(queries):
                best[with_targets].append(result.hits[0].score if result.hits else -1.0)
    return Verdicts(with_targets=np.array(best[True]), without_targets=np.array(best[False]))


def calibrate(config: CalibrateConfig) -> AbstainThreshold:
    """Fit on one split, measure on the other, write the file."""
    from cluster.storage import write_atomic
    from encoders.files import read_table
    from indexing.search import SearchClient

    columns = ["query_clip_id", "edit_text", "target_label", "split"]
    rows = read_table(config.triplets, columns).to_pylist()
    verdicts = {}
    with SearchClient(config.milvus_uri, config.collection, config.bundle_dir) as client:
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


def main(argv: Sequence[str] | None = None) -> int:
    """Print the threshold and what it reaches."""
    import tyro

    config = tyro.cli(CalibrateConfig, args=argv, prog="tfcovr calibrate")
    found = calibrate(config)
    sys.stdout.write(
        f"nothing matches below {found.min_score:.3f}: precision {found.precision:.3f}, recall "
        f"{found.recall:.3f} on {found.num_queries} queries of split {found.split!r}; {config.out}\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
