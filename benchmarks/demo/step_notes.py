"""What each step of the demo made, in one line, read from the files that it wrote."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.demo.summary import read_json
from encoders.clips import read_clips


def describe_archive(clips_path: Path) -> str:
    """Clips, classes, splits and size on disk."""
    clips = read_clips(clips_path)
    splits = Counter(clip.split for clip in clips)
    size_mb = sum(Path(clip.video_uri).stat().st_size for clip in clips) / 1e6
    counts = ", ".join(f"{count} {split}" for split, count in splits.items())
    return (
        f"{len(clips)} videos of {len({clip.label for clip in clips})} classes "
        f"({counts}), {size_mb:.0f} MB"
    )


def describe_pretraining(weights_dir: Path) -> str:
    """How well the image transformer tells poses of clips that it never saw."""
    info = read_json(weights_dir / "pretraining.json")
    held_out = info["held_out"]
    return (
        f"{weights_dir} after {info['train_cpu_s'] / 60:.0f} CPU-minutes; of the held-out variance it explains "
        f"{held_out['r2_joints']:.0%} of joints, {held_out['r2_axis']:.0%} of axes, {held_out['r2_front']:.0%} of facings"
    )


def describe_triplets(triplets_path: Path) -> str:
    """How many queries, and how many answers each has."""
    report = read_json(triplets_path.with_suffix(".json"))["report"]
    return (
        f"{report['num_triplets']} triplets over {report['num_pairs']} label pairs, "
        f"{report['mean_targets_per_query']:.1f} targets per query"
    )


def describe_vectors(vectors_path: Path) -> str:
    """How many vectors, and how long each is."""
    table = pq.read_table(vectors_path, columns=["embedding"])
    return f"{len(table)} vectors of {len(table['embedding'][0])} numbers in {vectors_path}"


def describe_training(run_dir: Path) -> str:
    """The bundle and its figures on the val split."""
    result = read_json(run_dir / "result.json")
    scores = ", ".join(
        f"{name} {value:.3f}" for name, value in _figures(result).items() if name.startswith("val")
    )
    return f"bundle {run_dir / 'bundle'} after {result['epoch']} epochs; {scores}"


def describe_export(bundle_dir: Path) -> str:
    """How close the ONNX graphs are to torch."""
    onnx = read_json(bundle_dir / "card.json")["onnx"]
    return (
        f"video.onnx, text.onnx and fusion.onnx, cosine with torch at least {onnx['min_cosine']:.6f} "
        f"on {onnx['num_clips']} clips"
    )


def describe_index(index_dir: Path) -> str:
    """Rows, rate and bottleneck."""
    summary = read_json(index_dir / "index_summary.json")
    return (
        f"{summary['now']['rows_in_collection']} rows, {summary['now']['dead']} dead letters, "
        f"{summary['clips_per_s']:.0f} clips/s, bottleneck {summary['bottleneck']}"
    )


def describe_evidence(evidence_dir: Path) -> str:
    """Top-1 of the encoder beside its controls."""
    rows = read_json(evidence_dir / "time_evidence.json")["rows"]
    return ", ".join(f"{row['name'].replace('_', ' ')} {row['top1']:.1%}" for row in rows[:4])


def describe_evaluation(evaluation_dir: Path) -> str:
    """mAP@50 of every row."""
    rows = read_json(evaluation_dir / "metrics.json")["rows"]
    return "mAP@50 " + ", ".join(
        f"{row['name'].replace('_', ' ')} {row['map@50']:.1%}" for row in rows
    )


def describe_answers(run_dir: Path) -> str:
    """How many of the first answers show what was asked for."""
    answers = json.loads((run_dir / "answers.json").read_text())
    right = sum(bool(answer["hits"]) and answer["hits"][0]["is_right"] for answer in answers)
    return f"{run_dir / 'answers.png'}; the first answer is right in {right} of {len(answers)}"


def _figures(result: Mapping[str, Any]) -> dict[str, float]:
    """All numbers of a nested result, by their innermost name."""
    figures: dict[str, float] = {}
    for name, value in result.items():
        if isinstance(value, Mapping):
            figures |= _figures(value)
        elif isinstance(value, float):
            figures[name] = value
    return figures
