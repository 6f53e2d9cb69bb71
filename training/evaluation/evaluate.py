"""Evaluation of composed retrieval: `tfcovr evaluate` ranks a gallery by every row and writes metrics.json.

Search is exact. Rows other than `raw` are stage 2 runs; missing controls are trained here
with the composed row's own recipe, budget and seed, and resumed after an interruption.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cluster.progress import progress_bar
from cluster.storage import write_atomic
from encoders.clips import Clip, read_clips
from training.annotations.labels.pairs import attributes_by_label, label_pairs
from training.annotations.triplets.table import read_triplets
from training.configs import EvaluateConfig, LaunchSettings
from training.evaluation.problem import build_retrieval_problem
from training.evaluation.release_protocol import RELEASE_NOTE, release_metrics
from training.evaluation.rows import RowMaker
from training.evaluation.scores import ScoredRow, finite, score_row, summarize_rows
from training.evaluation.tables import ROW_TITLES, write_rankings
from training.trainer.run_folder import BUNDLE
from training.trainer.session import connected
from training.vectors.compute import VectorsConfig, compute_vectors
from training.vectors.tables import read_dead_ids, read_lengths, read_unit_vectors


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Measure all rows; returns the content of metrics.json."""
    triplets = read_triplets(config.triplets)
    clips = read_clips(config.clips) if config.clips else None
    launch = LaunchSettings(num_workers=config.num_workers, limits=config.limits)
    vectors_path = config.vectors or _make_vectors(config, launch)
    problem = build_retrieval_problem(
        triplets,
        read_unit_vectors(vectors_path),
        split=config.split,
        clips=clips,
        dead_ids=read_dead_ids(vectors_path),
    )
    problem = replace(problem, lengths=read_lengths(vectors_path))
    maker = RowMaker(
        stage2_dir=config.stage2,
        vectors_path=vectors_path,
        triplets_path=config.triplets,
        rows_dir=config.run_dir / "rows",
        launch=launch,
    )
    scored: list[ScoredRow] = []
    release: list[dict[str, Any]] = []
    with progress_bar("rows", len(config.rows)) as update:
        for number, name in enumerate(config.rows):
            update(number, ROW_TITLES[name])
            queries_ND = maker.queries(name, problem)
            scored.append(score_row(name, queries_ND, problem))
            metrics = release_metrics(problem.triplets, queries_ND, problem.vectors)
            release.append({"name": name, **metrics})
        update(len(config.rows), "intervals")
        summary = summarize_rows(
            scored, problem, config.intervals, change_by_pair=_change_by_pair(clips)
        )
    record = finite(
        {
            "protocol": "unique",
            "split": config.split,
            "gallery_size": len(problem.gallery_ids),
            "num_dead_clips": problem.num_dead_clips,
            "num_queries_left_out": problem.num_queries_left_out,
            "intervals": asdict(config.intervals),
            **summary,
            "release": {
                "protocol": "tfcovr-release",
                "unit": "percent",
                "note": RELEASE_NOTE,
                "rows": release,
            },
            "sources": maker.sources,
        }
    )
    if config.rankings:
        rankings = {row.name: (row.places_NK, row.scores_NK) for row in scored}
        write_rankings(
            config.run_dir / "rankings.parquet", problem.triplets, problem.gallery_ids, rankings
        )
    write_atomic(config.run_dir / "metrics.json", json.dumps(record, indent=1, allow_nan=False))
    return record


def _make_vectors(config: EvaluateConfig, launch: LaunchSettings) -> Path:
    """Compute the vectors of all clips with the evaluated bundle, once."""
    assert config.clips is not None
    out = config.run_dir / "vectors.parquet"
    plan = VectorsConfig(clips=config.clips, bundle=config.stage2 / BUNDLE, out=out, launch=launch)
    with connected(launch, config.run_dir):
        compute_vectors(plan)
    return out


def _change_by_pair(clips: Sequence[Clip] | None) -> dict[tuple[str, str], str]:
    """(source label, target label) -> the changed attributes, such as "position + twists"."""
    if clips is None:
        return {}
    attributes = attributes_by_label(clips)
    num_names = max((len(values) for values in attributes.values()), default=0)
    return {
        (pair.source_label, pair.target_label): " + ".join(change.name for change in pair.changes)
        for pair in label_pairs(attributes, max_changes=num_names)
    }
