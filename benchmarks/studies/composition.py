"""What stage 2 owes to each of its choices: one run trains every variant on the same vectors and triplets.

Reads the folder of a finished demo: its vectors, triplets, stage 1 bundle and clips. Resumable: rerun the same command after an interruption.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.harness.record import write_record
from encoders.bundle.folder import load_bundle
from encoders.clips import read_clips
from training.annotations.triplets.table import read_triplets
from training.configs import LaunchSettings, Stage2Config
from training.evaluation.problem import RetrievalProblem, build_retrieval_problem
from training.evaluation.rows import QueryEncoder
from training.evaluation.scores import (
    HEADLINE,
    IntervalConfig,
    ScoredRow,
    score_row,
    summarize_rows,
)
from training.recipes import RECIPES
from training.stage2.train import Stage2Inputs, train_stage2
from training.trainer.run_folder import BUNDLE
from training.vectors.tables import read_unit_vectors

_LONGER = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """The demo's recipe but for `changes`."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    epochs_factor: int = 1
    seed: int = 0

    def config(self, recipe: Stage2Config) -> Stage2Config:
        """The whole config."""
        num_epochs = recipe.loop.num_epochs * self.epochs_factor
        loop = replace(recipe.loop, num_epochs=num_epochs, seed=self.seed)
        return replace(recipe, loop=loop, **self.changes)


VARIANTS = (
    Variant(name="demo"),
    Variant(name="another_seed", seed=1),
    Variant(name="every_neighbour_is_a_negative", changes={"mask_same_label": False}),
    Variant(name="numbers_as_digits", changes={"number_words": False}),
    Variant(name="counts", changes={"counts": True}),
    Variant(name="mean", changes={"fusion": "mean"}),
    Variant(name="longer", epochs_factor=_LONGER),
    Variant(name="mean_longer", changes={"fusion": "mean"}, epochs_factor=_LONGER),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoFiles:
    """What the study takes from a demo."""

    run_dir: Path

    def inputs(self) -> Stage2Inputs:
        """Of every training."""
        return Stage2Inputs(
            triplets_path=self.run_dir / "triplets.parquet",
            init_bundle=self.run_dir / "stage1" / BUNDLE,
            vectors_path=self.run_dir / "vectors.parquet",
        )

    def problem(self, split: str) -> RetrievalProblem:
        """The queries of a split over all its clips."""
        return build_retrieval_problem(
            read_triplets(self.run_dir / "triplets.parquet"),
            read_unit_vectors(self.run_dir / "vectors.parquet"),
            split=split,
            clips=read_clips(self.run_dir / "archive" / "clips.parquet"),
        )


def study(files: DemoFiles, recipe: Stage2Config, out_dir: Path, *, split: str) -> dict[str, Any]:
    """mAP@50 of every variant with its interval, queries resampled by clip and label pair."""
    problem = files.problem(split)
    texts = [triplet.edit_text for triplet in problem.triplets]
    encode = QueryEncoder()
    scored: list[ScoredRow] = []
    for variant in VARIANTS:
        run_dir = out_dir / variant.name
        train_stage2(variant.config(recipe), files.inputs(), run_dir, LaunchSettings())
        queries_ND = encode(load_bundle(run_dir / BUNDLE), problem.clips_ND, texts)
        scored.append(score_row(variant.name, queries_ND, problem))
    summary = summarize_rows(scored, problem, IntervalConfig())
    return {
        f"{row['name']}{bound}": row[f"{HEADLINE}{bound}"]
        for row in summary["rows"]
        for bound in ("", "_low", "_high")
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.composition",
        description=__doc__,
        epilog="example: python -m benchmarks.studies.composition --demo runs/demo --out runs/composition",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--demo", type=Path, required=True, help="folder of a finished demo")
    parser.add_argument("--out", type=Path, required=True)
    stage2 = [name for name, recipe in RECIPES.items() if isinstance(recipe(), Stage2Config)]
    parser.add_argument("--recipe", choices=stage2, default="demo_fusion", help="(%(default)s)")
    parser.add_argument("--split", default="test", help="(%(default)s)")
    parser.add_argument("--no-record", action="store_true", help="only print")
    given = parser.parse_args(argv)
    if not (given.demo / "summary.json").is_file():
        parser.error(f"--demo {str(given.demo)!r} has no summary.json: no demo has finished there")
    recipe = RECIPES[given.recipe]()
    assert isinstance(recipe, Stage2Config)
    metrics = study(DemoFiles(run_dir=given.demo), recipe, given.out, split=given.split)
    console = Console(soft_wrap=True)
    for variant in VARIANTS:
        value, low, high = (metrics[variant.name + bound] for bound in ("", "_low", "_high"))
        console.print(f"{variant.name}: mAP@50 {value:.1%} [{low:.1%}, {high:.1%}]")
    if not given.no_record:
        config = {
            "recipe": given.recipe,
            "split": given.split,
            "epochs": recipe.loop.num_epochs,
            "epochs_longer": recipe.loop.num_epochs * _LONGER,
        }
        console.print(str(write_record("composition_study", config=config, metrics=metrics)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
