"""Evidence that the encoder sees time: held-out accuracy of a stage 1 run beside controls that cannot see the order of frames.

Trains the controls with the run's own recipe and steps on its kept frame vectors, then scores all of them on the test split.
N clips, M kept positions, T frames, F length of a frame vector, K classes.
"""

import argparse
import hashlib
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from cluster.storage import write_atomic
from encoders.bundle.folder import Bundle, load_bundle
from encoders.clips import Clip, read_clips
from encoders.files import from_dict
from encoders.media.sampling import sample_positions
from encoders.metrics import bootstrap_interval
from encoders.video_encoder.config import FrameTemporalConfig
from encoders.video_encoder.frame_temporal import FrameTemporalEncoder
from training.configs import LaunchSettings, Stage1Config
from training.stage1.frame_vectors import FrameVectors, keep_frame_vectors, read_frame_vectors
from training.stage1.task import Stage1Factory
from training.stage1.train import Stage1Inputs, train_stage1

CONTROLS = {"single_frame": "single", "mean_of_frames": "mean"}
COUNTS = ("somersaults", "twists")
# Their poses give the count away without order (a half twist shows half of the facings): no evidence of anything.
LEAKING_LABELS = frozenset({"5251b", "5253b", "5255b"})
_MIN_FAMILY = 3


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """Clips that no training saw, as frame vectors."""

    __test__ = False  # no test class
    clips: tuple[Clip, ...]
    labels: tuple[str, ...]
    """Of the classes, in the order of the logits."""
    vectors_NMF: Tensor

    @property
    def targets(self) -> Tensor:
        """Number of the right class [N]."""
        number = {label: n for n, label in enumerate(self.labels)}
        return torch.tensor([number[str(clip.label)] for clip in self.clips])


def count_families(
    attributes: Mapping[str, Mapping[str, str]], count: str
) -> list[tuple[str, ...]]:
    """Groups of at least three labels that differ in `count` alone, labels sorted.

    Left out: labels that leak their count, and those without any (a diver who never twists takes another pose).
    """
    groups: dict[tuple[tuple[str, str], ...], list[str]] = defaultdict(list)
    counted = {label for label, values in attributes.items() if values[count] != "0"}
    for label in sorted(counted - LEAKING_LABELS):
        others = tuple(sorted((k, v) for k, v in attributes[label].items() if k != count))
        groups[others].append(label)
    return [tuple(labels) for labels in groups.values() if len(labels) >= _MIN_FAMILY]


def right_given_family(
    logits_NK: Tensor, test: TestSet, families: Sequence[Sequence[str]]
) -> np.ndarray:
    """For each clip of a family: whether the right member has the largest logit within the family."""
    right: list[np.ndarray] = []
    for family in families:
        columns = torch.tensor([test.labels.index(label) for label in family])
        rows = torch.isin(test.targets, columns)
        predicted = columns[logits_NK[rows][:, columns].argmax(dim=1)]
        right.append((predicted == test.targets[rows]).numpy())
    return np.concatenate(right).astype(float)


def classify(bundle: Bundle, vectors_NTF: Tensor) -> Tensor:
    """Logits [N, K] from frame vectors."""
    encoder = cast(FrameTemporalEncoder, bundle.video)
    if bundle.head is None:
        raise ValueError(
            f"bundle {bundle.folder} has no classification head; it is not a stage 1 run"
        )
    with torch.inference_mode():
        parts = [bundle.head(encoder.pool(part)) for part in vectors_NTF.float().split(64)]
    return torch.cat(parts)


def shuffle_frames(vectors_NTF: Tensor, clips: Sequence[Clip]) -> Tensor:
    """Each clip's frames in an order of its own, drawn from its id."""
    num_frames = vectors_NTF.shape[1]
    shuffled: list[Tensor] = []
    for vectors_TF, clip in zip(vectors_NTF, clips, strict=True):
        digest = hashlib.sha256(clip.clip_id.encode()).digest()
        order = np.random.default_rng(list(digest[:8])).permutation(num_frames)
        shuffled.append(vectors_TF[torch.from_numpy(order)])
    return torch.stack(shuffled)


def evidence_rows(
    ordered: Bundle, controls: Mapping[str, Bundle], test: TestSet
) -> list[dict[str, object]]:
    """One row per figure, each with a bootstrap interval over clips."""
    num_frames = ordered.video.config.num_frames
    positions_T = torch.from_numpy(sample_positions(test.vectors_NMF.shape[1], num_frames))
    sampled_NTF = test.vectors_NMF[:, positions_T]
    logits = {
        "ordered": classify(ordered, sampled_NTF),
        "shuffled": classify(ordered, shuffle_frames(sampled_NTF, test.clips)),
    }
    # The controls average over all kept frames: for them more frames are more evidence.
    logits |= {name: classify(bundle, test.vectors_NMF) for name, bundle in controls.items()}
    rows = [
        accuracy_row(name, (logits_NK.argmax(dim=1) == test.targets).numpy(), 1 / len(test.labels))
        for name, logits_NK in logits.items()
    ]
    attributes = {str(clip.label): dict(clip.attributes) for clip in test.clips}
    for count in COUNTS:
        families = count_families(attributes, count)
        if not families:
            continue
        chance = len(families) / sum(map(len, families))
        for name, logits_NK in logits.items():
            suffix = "" if name == "ordered" else f"_{name}"
            right = right_given_family(logits_NK, test, families)
            row = accuracy_row(f"count_given_family_{count}{suffix}", right, chance)
            rows.append({**row, "families": [" ".join(family) for family in families]})
    return rows


def accuracy_row(name: str, is_right_N: np.ndarray, chance: float) -> dict[str, object]:
    """Share of right clips with its bootstrap interval, beside chance."""
    values_N = is_right_N.astype(float)
    low, high = bootstrap_interval(values_N)
    return {
        "name": name,
        "top1": round(float(values_N.mean()), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "chance": round(chance, 4),
        "num_clips": len(values_N),
    }


def read_stage1_config(run_dir: Path) -> Stage1Config:
    """The config of a stage 1 run, from its folder."""
    path = run_dir / "config.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing; {run_dir} is not a run folder of `tfcovr train`")
    run_config = json.loads(path.read_text())
    if run_config.get("stage") != "stage1":
        raise ValueError(f"{path} is of {run_config.get('stage')!r}, not of stage1")
    config = from_dict(Stage1Config, run_config["config"], str(path))
    if not isinstance(config.encoder, FrameTemporalConfig):
        kind = config.encoder.kind
        raise ValueError(f"{path}: the controls need a frame_temporal encoder, not {kind}")
    return config


def with_temporal(config: Stage1Config, temporal: Any) -> Stage1Config:
    """The same recipe for an encoder that sees its frames differently."""
    encoder = cast(FrameTemporalConfig, config.encoder)
    return replace(config, encoder=replace(encoder, temporal=temporal))


def measure(
    stage1_dir: Path, clips_path: Path, out_dir: Path, *, split: str, kept_dir: Path | None = None
) -> dict[str, object]:
    """Train the controls, score everything; going on where an earlier run stopped.

    `kept_dir` holds the run's frame vectors; None = where the run keeps them unless told otherwise.
    """
    config = read_stage1_config(stage1_dir)
    clips = sorted(
        (c for c in read_clips(clips_path) if c.split == split and c.label is not None),
        key=lambda clip: clip.clip_id,
    )
    if not clips:
        raise ValueError(f"{clips_path}: no labelled clip has the split {split!r}")
    launch = LaunchSettings()
    kept_dir = kept_dir or stage1_dir / "frame_vectors"
    inputs = Stage1Inputs(clips_path=clips_path, frame_vectors_dir=kept_dir)
    controls: dict[str, Bundle] = {}
    for name, temporal in CONTROLS.items():
        train_stage1(with_temporal(config, temporal), inputs, out_dir / name, launch)
        controls[name] = load_bundle(out_dir / name / "bundle")
    ordered = load_bundle(stage1_dir / "bundle")
    factory = Stage1Factory(
        config=config,
        clips_path=str(clips_path),
        run_dir=str(stage1_dir),
        frame_vectors_dir=str(kept_dir),
    )
    source = factory.vector_source("cpu")
    keep_frame_vectors(clips, source, kept_dir, launch)
    test = _test_set(clips, read_frame_vectors(clips, source, kept_dir), ordered)
    return {
        "split": split,
        "num_clips": len(test.clips),
        "num_classes": len(test.labels),
        "num_epochs": config.loop.num_epochs,
        "seed": config.loop.seed,
        "rows": evidence_rows(ordered, controls, test),
    }


def _test_set(clips: Sequence[Clip], vectors: FrameVectors, bundle: Bundle) -> TestSet:
    unknown = [clip for clip in clips if clip.label not in (bundle.card.labels or ())]
    if unknown:
        raise ValueError(
            f"clip {unknown[0].clip_id!r} has the label {unknown[0].label!r}; bundle {bundle.folder} tells apart "
            f"{', '.join(bundle.card.labels or ())}"
        )
    clip_by_id = {clip.clip_id: clip for clip in clips}
    return TestSet(
        clips=tuple(clip_by_id[clip_id] for clip_id in vectors.clip_ids),
        labels=tuple(bundle.card.labels or ()),
        vectors_NMF=vectors.plain_NMF,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.demo.time_evidence",
        description=__doc__,
        epilog="example: python -m benchmarks.demo.time_evidence --stage1 runs/demo/stage1 "
        "--clips runs/demo/archive/clips.parquet --out runs/demo/time_evidence",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--stage1", type=Path, required=True, help="run folder of stage 1")
    parser.add_argument("--clips", type=Path, required=True, help="the clips.parquet it trained on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", default="test", help="(%(default)s)")
    arguments = parser.parse_args(argv)
    evidence = measure(arguments.stage1, arguments.clips, arguments.out, split=arguments.split)
    path = arguments.out / "time_evidence.json"
    write_atomic(path, json.dumps(evidence, indent=1) + "\n")
    rows = cast("list[dict[str, Any]]", evidence["rows"])
    figures = ", ".join(f"{row['name']} {row['top1']:.1%}" for row in rows)
    sys.stdout.write(f"{path}: {figures}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
