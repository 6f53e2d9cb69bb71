"""Edits of counts where training shows little, with numbers read as digits, as words and as learned counts.

Reads the folder of a finished demo. Every way trains on a part of its triplets and answers edits of counts in the test split that
the part does not cover: other label pairs, numbers written otherwise, or few examples. Resumable: rerun the same command after an interruption.
"""

import argparse
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.harness.record import write_record
from encoders.bundle.folder import load_bundle
from encoders.clips import read_clips
from encoders.query_encoder.numbers import count_codes
from training.annotations.labels.pairs import stable_hash
from training.annotations.triplets.table import Triplet, read_triplets, write_triplets
from training.configs import LaunchSettings, Stage2Config
from training.evaluation.intervals import Interval, interval, resampled_means
from training.evaluation.problem import RetrievalProblem, build_retrieval_problem
from training.evaluation.rows import QueryEncoder
from training.evaluation.scores import HEADLINE, METRICS, IntervalConfig, score_row
from training.recipes import demo_fusion
from training.stage2.train import Stage2Inputs, train_stage2
from training.trainer.run_folder import BUNDLE
from training.vectors.tables import read_unit_vectors

READERS: Mapping[str, Mapping[str, Any]] = {
    "digits": {"number_words": False},
    "words": {},
    "counts": {"counts": True},
}
"""Way to read numbers -> what it changes of the demo's recipe; counts come beside the words."""

_ONE_PAIR_OF = 3
_ONE_TRIPLET_OF = 16
_NUM_STEPS = 480
_BATCH_SIZE = 64
_DIGIT = re.compile(r"[0-9]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """What training shows, and which queries of the test split are asked of it."""

    name: str
    is_shown: Callable[[Triplet], bool]
    is_asked: Callable[[Triplet], bool]

    def triplets(self, triplets: Sequence[Triplet]) -> list[Triplet]:
        """Training triplets that are shown and edits of counts that are asked; val is as it was."""
        kept = [t for t in triplets if self._keeps(t)]
        if not {"train", "test"} <= {t.split for t in kept}:
            raise ValueError(
                f"condition {self.name!r}: {len(triplets)} triplets leave it nothing to train on or to ask"
            )
        return kept

    def _keeps(self, triplet: Triplet) -> bool:
        if triplet.split == "train":
            return self.is_shown(triplet)
        if triplet.split == "test":
            return any(count_codes(triplet.edit_text)) and self.is_asked(triplet)
        return True


def _draw(kind: str, *parts: str | None) -> int:
    return stable_hash(kind, *(part or "" for part in parts))


def _is_kept_pair(triplet: Triplet) -> bool:
    return _draw("pair", triplet.source_label, triplet.target_label) % _ONE_PAIR_OF == 0


def _has_digit(triplet: Triplet) -> bool:
    return _DIGIT.search(triplet.edit_text) is not None


CONDITIONS = (
    Condition(
        name="other_pairs",
        is_shown=_is_kept_pair,
        is_asked=lambda triplet: not _is_kept_pair(triplet),
    ),
    Condition(
        name="other_notation",
        is_shown=lambda triplet: not _has_digit(triplet),
        is_asked=_has_digit,
    ),
    Condition(
        name="few",
        is_shown=lambda triplet: _draw("few", triplet.query_id) % _ONE_TRIPLET_OF == 0,
        is_asked=lambda _triplet: True,
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CountStudy:
    """Every condition with every way to read numbers and every seed, on the vectors of one demo."""

    demo_dir: Path
    out_dir: Path
    seeds: Sequence[int]

    def run(self, conditions: Sequence[Condition]) -> dict[str, float]:
        """mAP@50 and differences in it, means over the seeds, with their bounds; queries and triplets of training."""
        figures: dict[str, float] = {}
        for condition in conditions:
            inputs, problem = self._prepare(condition)
            values = {name: self._values(condition, name, inputs, problem) for name in READERS}
            shown = [t for t in read_triplets(inputs.triplets_path) if t.split == "train"]
            figures[f"{condition.name}.num_shown"] = len(shown)
            figures[f"{condition.name}.num_asked"] = len(problem.triplets)
            for name, estimate in compare(values, problem.triplets).items():
                figures[f"{condition.name}.{name}"] = estimate.value
                figures[f"{condition.name}.{name}_low"] = estimate.low
                figures[f"{condition.name}.{name}_high"] = estimate.high
        return figures

    def _prepare(self, condition: Condition) -> tuple[Stage2Inputs, RetrievalProblem]:
        folder = self.out_dir / condition.name
        folder.mkdir(parents=True, exist_ok=True)
        triplets = condition.triplets(read_triplets(self.demo_dir / "triplets.parquet"))
        inputs = Stage2Inputs(
            triplets_path=folder / "triplets.parquet",
            init_bundle=self.demo_dir / "stage1" / BUNDLE,
            vectors_path=folder / "vectors.parquet",
        )
        if not inputs.triplets_path.exists():
            # Text vectors are kept beside the clip vectors: not in the demo's folder.
            shutil.copyfile(self.demo_dir / "vectors.parquet", folder / "vectors.parquet")
            write_triplets(inputs.triplets_path, triplets)
        problem = build_retrieval_problem(
            triplets,
            read_unit_vectors(folder / "vectors.parquet"),
            split="test",
            clips=read_clips(self.demo_dir / "archive" / "clips.parquet"),
        )
        return inputs, problem

    def _values(
        self, condition: Condition, reader: str, inputs: Stage2Inputs, problem: RetrievalProblem
    ) -> np.ndarray:
        """AP@50 per query, the mean over the seeds."""
        texts = [triplet.edit_text for triplet in problem.triplets]
        num_shown = sum(t.split == "train" for t in read_triplets(inputs.triplets_path))
        encode = QueryEncoder()
        column = METRICS.index(HEADLINE)
        values = []
        for seed in self.seeds:
            run_dir = self.out_dir / condition.name / f"{reader}_{seed}"
            config = recipe(reader, seed=seed, num_shown=num_shown)
            train_stage2(config, inputs, run_dir, LaunchSettings())
            queries_ND = encode(load_bundle(run_dir / BUNDLE), problem.clips_ND, texts)
            values.append(score_row(reader, queries_ND, problem).values_NV[:, column])
        return np.mean(values, axis=0)


def recipe(reader: str, *, seed: int, num_shown: int) -> Stage2Config:
    """The demo's recipe with a way to read numbers and a small batch, for about as many steps on every number of triplets."""
    demo = demo_fusion()
    num_epochs = max(1, round(_NUM_STEPS / max(1, num_shown // _BATCH_SIZE)))
    loop = replace(
        demo.loop,
        num_epochs=num_epochs,
        batch_size=_BATCH_SIZE,
        eval_every=num_epochs,
        seed=seed,
    )
    return replace(demo, loop=loop, **READERS[reader])


def compare(
    values_by_reader: Mapping[str, np.ndarray], triplets: Sequence[Triplet]
) -> dict[str, Interval]:
    """Each reader's mean and each difference of two, from the same draws of query clips and label pairs."""
    columns = dict(values_by_reader)
    for second, first in combinations(values_by_reader, 2):
        columns[f"{first}_minus_{second}"] = values_by_reader[first] - values_by_reader[second]
    drawn = IntervalConfig()
    clusters = [
        [triplet.query_clip_id for triplet in triplets],
        [(triplet.source_label, triplet.target_label) for triplet in triplets],
    ]
    values_NV = np.stack(list(columns.values()), axis=1)
    resampled = resampled_means(
        values_NV, clusters, num_resamples=drawn.num_resamples, seed=drawn.seed
    )
    return {
        name: interval(float(values_NV[:, n].mean()), resampled[:, n], level=drawn.level)
        for n, name in enumerate(columns)
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.counts",
        description=__doc__,
        epilog="example: python -m benchmarks.studies.counts --demo runs/demo --out runs/counts",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [condition.name for condition in CONDITIONS]
    parser.add_argument("--demo", type=Path, required=True, help="folder of a finished demo")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=names, help="these conditions; default: all")
    parser.add_argument("--num-seeds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--no-record", action="store_true", help="only print")
    given = parser.parse_args(argv)
    if not (given.demo / "summary.json").is_file():
        parser.error(f"--demo {str(given.demo)!r} has no summary.json: no demo has finished there")
    if given.num_seeds < 1:
        parser.error(f"--num-seeds is {given.num_seeds}; it must be at least 1")
    chosen = [c for c in CONDITIONS if c.name in (given.only or names)]
    study = CountStudy(demo_dir=given.demo, out_dir=given.out, seeds=tuple(range(given.num_seeds)))
    metrics = study.run(chosen)
    console = Console(soft_wrap=True)
    for name in metrics:
        if f"{name}_low" in metrics:
            low, high = metrics[f"{name}_low"], metrics[f"{name}_high"]
            console.print(f"{name}: {metrics[name]:.1%} [{low:.1%}, {high:.1%}]")
    if not given.no_record:
        config = {
            "conditions": [condition.name for condition in chosen],
            "num_seeds": given.num_seeds,
            "steps": _NUM_STEPS,
            "batch_size": _BATCH_SIZE,
            "share_of_pairs_shown": 1 / _ONE_PAIR_OF,
            "share_of_few": 1 / _ONE_TRIPLET_OF,
        }
        console.print(str(write_record("count_study", config=config, metrics=metrics)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
