"""Evidence that the encoder sees time: held-out accuracy of a stage 1 run beside controls that cannot see the order of frames.

Trains the controls with the run's own recipe and steps, on its kept frame vectors where it has them, then scores all of them on the
test split. N clips, M kept positions, T frames, F length of a frame vector, H W pixels, C channels, K classes.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.demo.evidence_rows import TestSet, evidence_rows, shuffle_frames
from cluster.storage import write_atomic
from encoders.bundle.folder import Bundle, load_bundle
from encoders.clips import Clip, read_clips
from encoders.decoding.isolated import iter_clip_frames
from encoders.files import from_dict
from encoders.media.errors import DecodeError
from encoders.media.sampling import SamplingConfig, sample_positions
from encoders.video_encoder.config import FrameTemporalConfig
from encoders.video_encoder.frame_temporal import FrameTemporalEncoder
from training.configs import LaunchSettings, Stage1Config
from training.stage1.frame_vectors import keep_frame_vectors, read_frame_vectors
from training.stage1.task import Stage1Factory, has_frozen_image_part
from training.stage1.train import Stage1Inputs, train_stage1

CONTROLS = {"single_frame": "single", "mean_of_frames": "mean"}
_BATCH = 64


def read_stage1_config(run_dir: Path) -> Stage1Config:
    """The config of a stage 1 run, from its folder."""
    path = run_dir / "config.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing; {run_dir} is not a run folder of `tfcovr train`")
    run_config = json.loads(path.read_text())
    if run_config.get("stage") != "stage1":
        raise ValueError(f"{path} is of {run_config.get('stage')!r}, not of stage1")
    return from_dict(Stage1Config, run_config["config"], str(path))


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
    ordered = load_bundle(stage1_dir / "bundle")
    test = labelled_test_set(clips, ordered)
    if has_frozen_image_part(config.encoder):
        kept = _KeptVectors(config, stage1_dir, kept_dir or stage1_dir / "frame_vectors")
        test, logits = kept.measure(ordered, test, clips_path, out_dir)
    else:
        logits = _measure_frames(config, ordered, test, clips_path, out_dir)
    return {
        "split": split,
        "num_clips": len(test.clips),
        "num_classes": len(test.labels),
        "num_epochs": config.loop.num_epochs,
        "seed": config.loop.seed,
        "rows": evidence_rows(logits, test),
    }


def labelled_test_set(clips: Sequence[Clip], bundle: Bundle) -> TestSet:
    """The clips with the bundle's classes; ValueError for a clip of another class."""
    unknown = [clip for clip in clips if clip.label not in (bundle.card.labels or ())]
    if unknown:
        raise ValueError(
            f"clip {unknown[0].clip_id!r} has the label {unknown[0].label!r}; bundle {bundle.folder} tells apart "
            f"{', '.join(bundle.card.labels or ())}"
        )
    return TestSet(clips=tuple(clips), labels=tuple(bundle.card.labels or ()))


class _KeptVectors:
    """Evidence from the frame vectors of a run whose image part is frozen."""

    def __init__(self, config: Stage1Config, stage1_dir: Path, kept_dir: Path) -> None:
        self._config, self._stage1_dir, self._kept_dir = config, stage1_dir, kept_dir

    def measure(
        self, ordered: Bundle, test: TestSet, clips_path: Path, out_dir: Path
    ) -> tuple[TestSet, dict[str, Tensor]]:
        """The clips that have frame vectors, and the logits [N, K] of each row."""
        inputs = Stage1Inputs(clips_path=clips_path, frame_vectors_dir=self._kept_dir)
        controls: dict[str, Bundle] = {}
        for name, temporal in CONTROLS.items():
            train_stage1(with_temporal(self._config, temporal), inputs, out_dir / name)
            controls[name] = load_bundle(out_dir / name / "bundle")
        factory = Stage1Factory(
            config=self._config,
            clips_path=str(clips_path),
            run_dir=str(self._stage1_dir),
            frame_vectors_dir=str(self._kept_dir),
        )
        source = factory.vector_source("cpu")
        keep_frame_vectors(test.clips, source, self._kept_dir, LaunchSettings())
        vectors = read_frame_vectors(test.clips, source, self._kept_dir)
        clip_by_id = {clip.clip_id: clip for clip in test.clips}
        test = replace(test, clips=tuple(clip_by_id[clip_id] for clip_id in vectors.clip_ids))
        return test, cached_logits(ordered, controls, vectors.plain_NMF, test.clips)


def cached_logits(
    ordered: Bundle, controls: Mapping[str, Bundle], vectors_NMF: Tensor, clips: Sequence[Clip]
) -> dict[str, Tensor]:
    """Logits [N, K] of the encoder, of its frames shuffled, and of the controls, from kept frame vectors."""
    num_frames = ordered.video.config.num_frames
    positions_T = torch.from_numpy(sample_positions(vectors_NMF.shape[1], num_frames))
    sampled_NTF = vectors_NMF[:, positions_T]

    def classified(bundle: Bundle, vectors_NTF: Tensor) -> Tensor:
        return _classify(bundle, cast(FrameTemporalEncoder, bundle.video).pool, vectors_NTF.float())

    # The controls average over all kept frames: for them more frames are more evidence.
    return {
        "ordered": classified(ordered, sampled_NTF),
        "shuffled": classified(ordered, shuffle_frames(sampled_NTF, clips)),
        **{name: classified(bundle, vectors_NMF) for name, bundle in controls.items()},
    }


def _measure_frames(
    config: Stage1Config, ordered: Bundle, test: TestSet, clips_path: Path, out_dir: Path
) -> dict[str, Tensor]:
    """Logits [N, K] of an encoder whose every layer trains on frames; the control learned from one random frame of a clip."""
    alone = replace(config, encoder=replace(config.encoder, num_frames=1))
    train_stage1(alone, Stage1Inputs(clips_path=clips_path), out_dir / "single_frame")
    single = load_bundle(out_dir / "single_frame" / "bundle")
    frames_NTHWC = _decode(test.clips, ordered.card.sampling)
    shuffled_NTHWC = shuffle_frames(frames_NTHWC, test.clips)
    each_K = _classify(single, single.video.features, frames_NTHWC.flatten(0, 1).unsqueeze(1))
    return {
        "ordered": _classify(ordered, ordered.video.features, frames_NTHWC),
        "shuffled": _classify(ordered, ordered.video.features, shuffled_NTHWC),
        # Averaged over all frames that the encoder sees.
        "single_frame": each_K.unflatten(0, (len(test.clips), -1)).mean(dim=1),
    }


def _decode(clips: Sequence[Clip], sampling: SamplingConfig) -> Tensor:
    """All clips' frames [N, T, H, W, C], as indexing samples them."""
    frames: list[Tensor] = []
    for clip, decoded in iter_clip_frames(clips, sampling):
        if isinstance(decoded, DecodeError):
            raise ValueError(
                f"clip {clip.clip_id!r} of the rendered archive: {decoded}"
            ) from decoded
        frames.append(torch.from_numpy(decoded))
    return torch.stack(frames)


def _classify(bundle: Bundle, features: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Logits [N, K]; `features` gives clip vectors [N, D] of some inputs [N, ...]."""
    if bundle.head is None:
        raise ValueError(
            f"bundle {bundle.folder} has no classification head; it is not a stage 1 run"
        )
    with torch.inference_mode():
        return torch.cat([bundle.head(features(part)) for part in inputs.split(_BATCH)])


def with_temporal(config: Stage1Config, temporal: Any) -> Stage1Config:
    """The same recipe for an encoder that sees its frames differently."""
    encoder = cast(FrameTemporalConfig, config.encoder)
    return replace(config, encoder=replace(encoder, temporal=temporal))


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
