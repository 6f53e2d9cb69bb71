"""Edits that training did not show: every fusion on the same vectors, condition by condition, with seeds and paired intervals.

Renders its archives and trains a stage 1 on each, with a seed that no setting was chosen on; what is said of "nothing matches" is
measured on a finished demo, where one is given. Resumable: rerun the same command after an interruption.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks.harness.record import write_record
from benchmarks.studies import abstain
from benchmarks.studies.composition.archives import PLANS, SEED, add_distractors, make_archive
from benchmarks.studies.composition.conditions import (
    CONDITIONS,
    FEW,
    HELD_OUT_CLASSES,
    HELD_OUT_VALUES,
    SEEN_PAIRS,
    UNSEEN_CLASS,
    UNSEEN_PAIRS,
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
        "video_only": replace(demo, inputs="video"),
    }


@dataclass(frozen=True)
class Archive:
    """A folder of `make_archive`, where its runs go too."""

    folder: Path
    distractors: Path | None = None
    """Vectors of clips, all of other labels, that are in the gallery too."""

    @cached_property
    def triplets(self) -> list[Triplet]:
        """All of them."""
        return read_triplets(self.folder / "triplets.parquet")

    @property
    def vectors_path(self) -> Path:
        """Of all clips."""
        return self.folder / "vectors.parquet"

    @cached_property
    def label_by_clip(self) -> dict[str, str | None]:
        """Of all clips."""
        return {clip.clip_id: clip.label for clip in read_clips(self.folder / "clips.parquet")}

    def train(self, condition: Condition, row: str, config: Stage2Config) -> Bundle:
        """The bundle of a row, trained on what the condition shows."""
        path = self.folder / "runs" / condition.name / "triplets.parquet"
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
            clips=read_clips(self.folder / "clips.parquet"),
        )
        if self.distractors is None:
            return problem
        vectors = read_unit_vectors(self.distractors)
        added = {f"distractor/{clip_id}": vectors[clip_id] for clip_id in vectors}
        return replace(
            problem,
            gallery_ids=(*problem.gallery_ids, *added),
            vectors={**problem.vectors, **added},
        )


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
    """All conditions that are asked for; a stage 1 is trained when its first condition is."""
    study = Study(given, given.rows)
    figures: dict[str, float] = {}
    for name, (plan, condition) in jobs().items():
        if given.only and name.split(".")[0] not in given.only:
            continue
        archive = Archive(make_archive(PLANS[plan], given.out))
        if name == "unseen_templates":
            add_template_figures(figures, archive, given)
            for bank in ("shown", "unseen"):
                show(console, figures, f"{name}.{bank}", [OURS])
            continue
        if name == "distractors":
            labels = set(archive.label_by_clip.values())
            vectors = add_distractors(archive.folder, labels, given.num_distractors)
            archive = replace(archive, distractors=vectors)
        add_figures(figures, name, study.answers(archive, condition))
        show(console, figures, name, study.rows)
    if given.demo is not None:
        figures |= abstain.measure(abstain.Config(run_dir=given.demo, split=given.split))
    return {**figures, **headline(figures)}


def jobs() -> dict[str, tuple[str, Condition]]:
    """Condition -> its archive, and what is shown and asked; 10,000 distractors come last, they take the longest to render."""
    plans = {
        c.name: "values" if c.name.startswith("unseen_values") else "pairs" for c in CONDITIONS
    }
    return {
        **{c.name: (plans[c.name], c) for c in CONDITIONS},
        "unseen_templates": ("pairs", SEEN_PAIRS),
        "unseen_class": ("unseen_class", UNSEEN_CLASS),
        "full47": ("full47", SEEN_PAIRS),
        "full47_unseen_pairs": ("full47", UNSEEN_PAIRS),
        "distractors": ("pairs", SEEN_PAIRS),
    }


def add_template_figures(
    figures: dict[str, float], archive: Archive, given: argparse.Namespace
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
        answers = study.answers(archive, SEEN_PAIRS, reworded(archive.triplets, bank))
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
        prog="python -m benchmarks composition",
        description=__doc__,
        epilog="example: python -m benchmarks composition --out runs/composition --demo runs/demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rows = tuple(row_configs())
    names = sorted({name.split(".")[0] for name in jobs()})
    parser.add_argument("--demo", type=Path, help="folder of a finished demo")
    parser.add_argument(
        "--num-distractors", type=int, default=10_000, help="clips of other classes (%(default)s)"
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
    if given.demo is not None and not (given.demo / "milvus").is_dir():
        parser.error(f"--demo {str(given.demo)!r} has no folder milvus: no demo has finished there")
    if min(given.num_seeds, given.num_control_seeds, given.num_distractors) < 1:
        parser.error(
            f"--num-seeds is {given.num_seeds}, --num-control-seeds {given.num_control_seeds}, --num-distractors "
            f"{given.num_distractors}; they must be at least 1"
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
            "stage1_saw_held_out_values": True,
            "archive_seed": SEED,
            "stage1_head": {name: plan.stage1.head for name, plan in PLANS.items()},
            "not_measured": sorted(set(names) - {n.split(".")[0] for n in metrics}),
            "split": given.split,
        }
        console.print(str(write_record("composition", config=config, metrics=metrics)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
