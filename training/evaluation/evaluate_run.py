"""Evaluation of a stage 2 run on given vectors: the composed row and the clip alone, by both protocols, to metrics.json.

Needs no video encoder: vectors and triplets are files. N queries.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cluster.storage import write_atomic
from training.annotations.triplets.table import read_triplets
from training.configs import Stage2Config
from training.evaluation.problem import RetrievalProblem, build_retrieval_problem
from training.evaluation.release_protocol import RELEASE_NOTE, release_metrics
from training.evaluation.scores import IntervalConfig, finite, score_row, summarize_rows
from training.stage2.text_table import read_texts
from training.stage2.train import load_composer
from training.vectors.tables import read_dead_ids, read_lengths, read_unit_vectors

METRICS_FILE = "metrics.json"
_QUERIES_AT_ONCE = 1024


def evaluate_run(
    config: Stage2Config,
    *,
    triplets_path: Path,
    vectors_path: Path,
    run_dir: Path,
    split: str,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Measure a finished run; writes and returns DIR/evaluate/metrics.json, with the entries of `about`."""
    problem = build_retrieval_problem(
        read_triplets(triplets_path),
        read_unit_vectors(vectors_path),
        split=split,
        dead_ids=read_dead_ids(vectors_path),
    )
    problem = replace(problem, lengths=read_lengths(vectors_path))
    queries = {
        "composed": composed_queries(config, problem, run_dir, vectors_path),
        "raw": problem.clips_ND,
    }
    record = measure_rows(queries, problem, split=split)
    record.update(about)
    write_metrics(run_dir / "evaluate" / METRICS_FILE, record)
    return record


def composed_queries(
    config: Stage2Config, problem: RetrievalProblem, run_dir: Path, vectors_path: Path
) -> np.ndarray:
    """Unit query vectors [N, D] of the run's trained module; every text is encoded once."""
    module, text, _epoch = load_composer(config, run_dir, vectors_path)
    texts = [triplet.edit_text for triplet in problem.triplets]
    table = read_texts(sorted(set(texts)), text, cache_dir=run_dir / "evaluate")
    assert table.vectors_UD is not None
    numbers_N = torch.tensor([table.number_by_text[edit_text] for edit_text in texts])
    clips_ND = torch.from_numpy(problem.fusion_clips(keeps_length=config.keeps_length))
    with torch.inference_mode():
        parts = [
            module.fusion(clips_ND[block], table.vectors_UD[numbers_N[block]])
            for block in torch.arange(len(texts)).split(_QUERIES_AT_ONCE)
        ]
    return torch.cat(parts).numpy()


def measure_rows(
    queries: Mapping[str, np.ndarray],
    problem: RetrievalProblem,
    *,
    split: str,
    intervals: IntervalConfig | None = None,
) -> dict[str, Any]:
    """Score every row by the protocol `unique`, with intervals, and by `tfcovr-release`."""
    intervals = intervals or IntervalConfig()
    scored = [score_row(name, queries_ND, problem) for name, queries_ND in queries.items()]
    return {
        "protocol": "unique",
        "split": split,
        "gallery_size": len(problem.gallery_ids),
        "intervals": asdict(intervals),
        **summarize_rows(scored, problem, intervals),
        "release": {
            "protocol": "tfcovr-release",
            "unit": "percent",
            "note": RELEASE_NOTE,
            "rows": [
                {"name": name, **release_metrics(problem.triplets, queries_ND, problem.vectors)}
                for name, queries_ND in queries.items()
            ],
        },
    }


def write_metrics(path: Path, record: dict[str, Any]) -> None:
    """Write JSON, with null for infinity and NaN, which JSON lacks."""
    write_atomic(path, json.dumps(finite(record), indent=1, allow_nan=False))
