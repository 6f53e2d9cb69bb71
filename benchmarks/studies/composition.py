"""Edits that training did not show: every fusion on the same vectors, condition by condition, with seeds and paired intervals.

Reads the folder of a finished demo. Folders of the same form: `--unseen-class`, whose stage 1 did not see the held out classes;
`--distractors`, other classes; `--full47`, all classes at difficulty `full`. What is not given is missing in the record. Resumable: rerun the same command after an
interruption.
"""

import argparse
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks.harness.record import write_record
from benchmarks.studies.conditions import (
    CONDITIONS,
    FEW,
    HELD_OUT_CLASSES,
    HELD_OUT_VALUES,
    SEEN_PAIRS,
    UNSEEN_CLASS,
    Condition,
    reworded,
)
from encoders.bundle.folder import Bundle, load_bundle
from encoders.clips import read_clips
from encoders.query_encoder.factored import FactoredFusion
from training.annotations.labels.names import label_attributes
from training.annotations.triplets.free_texts import Bank
from training.annotations.triplets.table import Triplet, read_triplets, write_triplets
from training.configs import LaunchSettings, Stage2Config
from training.evaluation.intervals import Interval, interval, resampled_means
from training.evaluation.problem import RetrievalProblem, build_retrieval_problem
from training.evaluation.rows import QueryEncoder
from training.evaluation.scores import HEADLINE, METRICS, IntervalConfig, score_row
from training.recipes import demo_fusion, demo_fusion_factored
from training.stage2.train import Stage2Inputs, train_stage2
from training.trainer.run_folder import BUNDLE
from training.vectors.tables import read_unit_vectors

OURS = "factored"
PAPER = "paper"
_NUM_STEPS = 1000
_BATCH_SIZE = 128


def row_configs() -> dict[str, Stage2Config]:
    """Row -> recipe. The paper's row has its loss and fusion at the demo's width: every batch neighbour is a negative."""
    demo, factored = demo_fusion(), demo_fusion_factored()
    return {
        PAPER: replace(demo, mask_same_label=False),
        "combiner": replace(demo, counts=True),
        OURS: factored,
        "text_only": replace(factored, inputs="text"),
        "video_only": replace(factored, inputs="video"),
    }


@dataclass(frozen=True)
class Archive:
    """A finished demo, or a folder of the same form, and where its runs go."""

    folder: Path
    out_dir: Path
    distractors: Path | None = None
    """A folder of the same form whose clips, all of other labels, are in the gallery too."""

    @cached_property
    def triplets(self) -> list[Triplet]:
        """All of them."""
        return read_triplets(self.folder / "triplets.parquet")

    @cached_property
    def vectors_path(self) -> Path:
        """A copy: text vectors are kept beside the clip vectors, and the demo's folder stays as it is."""
        path = self.out_dir / "vectors.parquet"
        if not path.exists():
            self.out_dir.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.folder / "vectors.parquet", path)
        return path

    @cached_property
    def label_by_clip(self) -> dict[str, str | None]:
        """Of all clips."""
        clips = read_clips(self.folder / "archive" / "clips.parquet")
        return {clip.clip_id: clip.label for clip in clips}

    def train(self, condition: Condition, row: str, config: Stage2Config) -> Bundle:
        """The bundle of a row, trained on what the condition shows."""
        path = self.out_dir / condition.name / "triplets.parquet"
        kept = condition.triplets(self.triplets)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_triplets(path, kept)
        inputs = Stage2Inputs(
            triplets_path=path,
            init_bundle=self.folder / "stage1" / BUNDLE,
            vectors_path=self.vectors_path,
        )
        num_shown = sum(t.split == "train" for t in kept)
        run_dir = path.parent / f"{row}_{config.loop.seed}"
        train_stage2(
            with_steps(config, num_shown), inputs, run_dir, LaunchSettings(show_progress=False)
        )
        return load_bundle(run_dir / BUNDLE)

    def problem(self, triplets: Sequence[Triplet], split: str) -> RetrievalProblem:
        """The queries of a split over all its clips, and over those that distract."""
        problem = build_retrieval_problem(
            triplets,
            read_unit_vectors(self.vectors_path),
            split=split,
            clips=read_clips(self.folder / "archive" / "clips.parquet"),
        )
        if self.distractors is None:
            return problem
        added = distracting_vectors(self.distractors, set(self.label_by_clip.values()))
        return replace(
            problem,
            gallery_ids=(*problem.gallery_ids, *added),
            vectors={**problem.vectors, **added},
        )


def distracting_vectors(folder: Path, labels: Collection[str | None]) -> dict[str, np.ndarray]:
    """Vectors by clip id of a folder's clips, none of which may have one of these labels: it could be a right answer."""
    clips = read_clips(folder / "archive" / "clips.parquet")
    shared = sorted({c.label or "(none)" for c in clips if c.label is None or c.label in labels})
    if shared:
        raise ValueError(f"{folder}: clips that distract have labels of the archive: {shared[:3]}")
    vectors = read_unit_vectors(folder / "vectors.parquet")
    return {f"distractor/{c.clip_id}": vectors[c.clip_id] for c in clips if c.clip_id in vectors}


def with_steps(config: Stage2Config, num_shown: int) -> Stage2Config:
    """The same number of steps on every number of triplets, one thread, and the last weights."""
    batch_size = min(_BATCH_SIZE, num_shown)
    num_epochs = max(1, round(_NUM_STEPS / max(1, num_shown // batch_size)))
    loop = replace(
        config.loop,
        num_epochs=num_epochs,
        batch_size=batch_size,
        eval_every=num_epochs,
        num_threads=1,
    )
    return replace(config, loop=loop)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """AP@50 and whether rank 1 has the label of the query clip, per query; means over the seeds."""

    problem: RetrievalProblem
    values: Mapping[str, np.ndarray]
    echoes: Mapping[str, np.ndarray]

    def intervals(self) -> dict[str, Interval]:
        """Each row and our gain over the paper's, paired."""
        columns = dict(self.values)
        if {OURS, PAPER} <= columns.keys():
            columns[f"{OURS}_minus_{PAPER}"] = columns[OURS] - columns[PAPER]
        drawn, triplets = IntervalConfig(), self.problem.triplets
        clusters = [
            [t.query_clip_id for t in triplets],
            [(t.source_label, t.target_label) for t in triplets],
        ]
        values_NV = np.stack(list(columns.values()), axis=1)
        resampled = resampled_means(
            values_NV, clusters, num_resamples=drawn.num_resamples, seed=drawn.seed
        )
        return {
            name: interval(float(values_NV[:, n].mean()), resampled[:, n], level=drawn.level)
            for n, name in enumerate(columns)
        }


class Study:
    """Trains and asks; text vectors are shared by all rows."""

    def __init__(self, given: argparse.Namespace, rows: Sequence[str]) -> None:
        self.rows, self.split = rows, given.split
        self._seeds: dict[str, int] = {row: int(given.num_control_seeds) for row in row_configs()}
        self._seeds[OURS] = given.num_seeds
        self._encode = QueryEncoder()

    def answers(
        self, archive: Archive, condition: Condition, triplets: Sequence[Triplet] | None = None
    ) -> Answers:
        """Every row's answers to the queries of a condition, or to `triplets` in their place."""
        asked = condition.triplets(archive.triplets) if triplets is None else triplets
        problem = archive.problem(asked, self.split)
        texts = [t.edit_text for t in problem.triplets]
        values: dict[str, list[np.ndarray]] = {}
        echoes: dict[str, list[np.ndarray]] = {}
        for row in self.rows:
            for seed in range(self._seeds[row]):
                config = row_configs()[row]
                config = replace(config, loop=replace(config.loop, seed=seed))
                bundle = archive.train(condition, row, config)
                queries = {row: self._encode(bundle, problem.clips_ND, texts)}
                if row == OURS:
                    queries["oracle_factors"] = oracle_queries(bundle, problem.triplets)
                for name, queries_ND in queries.items():
                    scored = score_row(name, queries_ND, problem)
                    column = scored.values_NV[:, METRICS.index(HEADLINE)]
                    values.setdefault(name, []).append(column)
                    first = [problem.gallery_ids[place] for place in scored.places_NK[:, 0]]
                    answered = [archive.label_by_clip.get(clip_id, "") for clip_id in first]
                    echo_N = np.array(answered) == [t.source_label for t in problem.triplets]
                    echoes.setdefault(name, []).append(echo_N)
        return Answers(
            problem=problem,
            values={name: np.mean(columns, axis=0) for name, columns in values.items()},
            echoes={name: np.mean(columns, axis=0) for name, columns in echoes.items()},
        )


def oracle_queries(bundle: Bundle, triplets: Sequence[Triplet]) -> np.ndarray:
    """What the decoder makes of the target's true attributes: the best that reading and editing could give."""
    fusion = bundle.fusion
    if not isinstance(fusion, FactoredFusion):
        raise ValueError(f"{bundle.folder} has no factored fusion")
    slots = []
    for factor in fusion.config.factors:
        rows_NK = torch.zeros(len(triplets), len(factor.values))
        for n, triplet in enumerate(triplets):
            slot = factor.slot(label_attributes(triplet.target_label or "").get(factor.name))
            # A value that the factor has no slot for gives the decoder nothing.
            if slot >= 0:
                rows_NK[n, slot] = 1
        slots.append(rows_NK)
    with torch.inference_mode():
        return fusion.decode(slots).numpy()


def headline(figures: Mapping[str, float]) -> dict[str, float]:
    """The figures under the names that thresholds and readers use; those that were not measured are left out."""
    values = [figures.get(f"unseen_values.{n}_{v}.{OURS}") for n, v in HELD_OUT_VALUES]
    others = [
        value
        for name, value in figures.items()
        if name.startswith("seen_pairs.")
        and name.count(".") == 1
        and name.split(".")[1] in (PAPER, "combiner", "text_only", "video_only")
    ]
    echoes = [v for name, v in figures.items() if name.endswith(f".{OURS}.echo_at_1")]
    chosen = {
        "seen_pairs_map50": figures.get(f"seen_pairs.{OURS}"),
        "seen_pairs_best_other": max(others, default=None),
        "unseen_pairs_map50": figures.get(f"unseen_pairs.{OURS}"),
        "unseen_pairs_low": figures.get(f"unseen_pairs.{OURS}.low"),
        "few_map50": figures.get(f"few.{OURS}"),
        "unseen_class_map50": figures.get(f"unseen_class.{OURS}"),
        "unseen_class_text_only": figures.get("unseen_class.text_only"),
        "unseen_values_map50": None if None in values else float(np.mean(values)),  # type: ignore[arg-type]
        "unseen_templates_gap": figures.get("unseen_templates.gap"),
        "full47_map50": figures.get(f"full47.{OURS}"),
        "full47_paper_recipe": figures.get(f"full47.{PAPER}"),
        "echo_at_1": max(echoes, default=None),
    }
    return {name: value for name, value in chosen.items() if value is not None}


def add_figures(figures: dict[str, float], name: str, answers: Answers) -> None:
    """Flat figures of a condition: the value, its bounds, and the echo of each row."""
    figures[f"{name}.num_asked"] = len(answers.problem.triplets)
    for row, measured in answers.intervals().items():
        figures[f"{name}.{row}"] = measured.value
        figures[f"{name}.{row}.low"] = measured.low
        figures[f"{name}.{row}.high"] = measured.high
    for row, echoes_N in answers.echoes.items():
        figures[f"{name}.{row}.echo_at_1"] = float(echoes_N.mean())


def run(given: argparse.Namespace, console: Console) -> dict[str, float]:
    """All conditions that have their data."""
    study = Study(given, given.rows)
    demo = Archive(given.demo, given.out / "demo")
    figures: dict[str, float] = {}
    jobs = [(demo, c, c.name) for c in CONDITIONS]
    if given.unseen_class is not None:
        jobs.append(
            (Archive(given.unseen_class, given.out / "class"), UNSEEN_CLASS, "unseen_class")
        )
    if given.distractors is not None:
        crowded = replace(demo, distractors=given.distractors)
        jobs.append((crowded, SEEN_PAIRS, "distractors"))
    if given.full47 is not None:
        jobs.append((Archive(given.full47, given.out / "full47"), SEEN_PAIRS, "full47"))
    for archive, condition, name in jobs:
        if given.only and name.split(".")[0] not in given.only:
            continue
        add_figures(figures, name, study.answers(archive, condition))
        show(console, figures, name, study.rows)
    if OURS in given.rows and (not given.only or "unseen_templates" in given.only):
        add_template_figures(figures, demo, given)
        for name in ("shown", "unseen"):
            show(console, figures, f"unseen_templates.{name}", [OURS])
    return {**figures, **headline(figures)}


def add_template_figures(
    figures: dict[str, float], demo: Archive, given: argparse.Namespace
) -> None:
    """The same edits of seen pairs, phrased from the bank that training drew from and from one that it did not.

    On val that is the bank of val, so that no choice is made on the wordings that test asks.
    """
    study = Study(given, [OURS])
    banks: dict[str, Bank] = {
        "shown": "shown",
        "unseen": "val" if given.split == "val" else "held_out",
    }
    for name, bank in banks.items():
        answers = study.answers(demo, SEEN_PAIRS, reworded(demo.triplets, bank))
        add_figures(figures, f"unseen_templates.{name}", answers)
    shown, other = (figures[f"unseen_templates.{name}.{OURS}"] for name in ("shown", "unseen"))
    figures["unseen_templates.gap"] = shown - other


def show(console: Console, figures: Mapping[str, float], name: str, rows: Sequence[str]) -> None:
    """One line per row."""
    for row in [*rows, "oracle_factors", f"{OURS}_minus_{PAPER}"]:
        key = f"{name}.{row}"
        if key in figures:
            low, high = figures[f"{key}.low"], figures[f"{key}.high"]
            console.print(f"{key}: mAP@50 {figures[key]:.1%} [{low:.1%}, {high:.1%}]")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.composition",
        description=__doc__,
        epilog="example: python -m benchmarks.studies.composition --demo runs/demo --out runs/composition",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rows = tuple(row_configs())
    names = sorted({c.name.split(".")[0] for c in CONDITIONS})
    names += ["unseen_class", "distractors", "full47", "unseen_templates"]
    parser.add_argument("--demo", type=Path, required=True, help="folder of a finished demo")
    parser.add_argument(
        "--unseen-class", type=Path, help="the same without the held out classes in stage 1"
    )
    parser.add_argument("--full47", type=Path, help="the same of all 47 classes at difficulty full")
    parser.add_argument(
        "--distractors", type=Path, help="the same of other classes, embedded by the demo's stage 1"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", choices=rows, default=list(rows))
    parser.add_argument("--only", nargs="+", choices=names, help="these conditions; default: all")
    parser.add_argument("--num-seeds", type=int, default=3, help="of our row (%(default)s)")
    parser.add_argument(
        "--num-control-seeds", type=int, default=3, help="of the others (%(default)s)"
    )
    parser.add_argument(
        "--split", choices=("val", "test"), default="test", help="val is for choices (%(default)s)"
    )
    parser.add_argument("--no-record", action="store_true", help="only print")
    given = parser.parse_args(argv)
    for flag in ("demo", "unseen_class", "distractors", "full47"):
        folder = getattr(given, flag)
        if folder is not None and not (folder / "vectors.parquet").is_file():
            parser.error(
                f"--{flag.replace('_', '-')} {str(folder)!r} has no vectors.parquet: no demo has finished there"
            )
    if min(given.num_seeds, given.num_control_seeds) < 1:
        parser.error(
            f"--num-seeds is {given.num_seeds} and --num-control-seeds {given.num_control_seeds}; they must be at least 1"
        )
    torch.set_num_threads(1)
    console = Console(soft_wrap=True)
    metrics = run(given, console)
    if not given.no_record:
        config: dict[str, Any] = {
            "num_seeds": given.num_seeds,
            "num_control_seeds": given.num_control_seeds,
            "rows": list(given.rows),
            "steps": _NUM_STEPS,
            "batch_size": _BATCH_SIZE,
            "share_of_pairs_shown": 1 / 3,
            "share_of_few": 1 / FEW,
            "held_out_classes": list(HELD_OUT_CLASSES),
            "held_out_values": ["=".join(pair) for pair in HELD_OUT_VALUES],
            "not_measured": sorted(set(names) - {n.split(".")[0] for n in metrics}),
            "split": given.split,
        }
        console.print(str(write_record("composition", config=config, metrics=metrics)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
