"""Stage 1 run: clips.parquet to a bundle with a trained video encoder."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoders.bundle.folder import save_bundle
from encoders.clips import read_clips
from encoders.files import from_dict, read_json
from encoders.media.sampling import SamplingConfig
from training.configs import LaunchSettings, Stage1Config
from training.losses import loss_of
from training.stage1.frame_vectors import keep_frame_vectors
from training.stage1.task import (
    DECODE_REPORT,
    Stage1Factory,
    build_classifier,
    class_names,
    has_frozen_image_part,
    select_clips,
)
from training.trainer.loop import load_trained
from training.trainer.run_folder import BUNDLE, hash_file
from training.trainer.session import TrainingRun, choose_device, scores_of_epoch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Decoded:
    """What a worker wrote of its decoding."""

    backends: tuple[str, ...]
    dead: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage1Inputs:
    """Files that a stage 1 run reads."""

    clips_path: Path
    frame_vectors_dir: Path | None = None
    """Folder of cached frame vectors, which runs with the same image part may share; None = in the run folder."""


def train_stage1(
    config: Stage1Config,
    inputs: Stage1Inputs,
    run_dir: Path,
    launch: LaunchSettings | None = None,
) -> dict[str, Any]:
    """Start, resume, or skip a finished run; writes DIR/bundle and returns the content of result.json."""
    loss_of(config)  # told before the run folder is made
    launch = launch or LaunchSettings()
    clips = select_clips(read_clips(inputs.clips_path), config)
    classes = class_names(clips["train"], config)
    content = {"clips": hash_file(inputs.clips_path)}
    run = TrainingRun("stage1", config, run_dir, launch, inputs=content)
    run_dir = run.run_dir
    vectors_dir = (inputs.frame_vectors_dir or run_dir / "frame_vectors").absolute()
    factory = Stage1Factory(
        config=config,
        clips_path=str(inputs.clips_path.absolute()),
        run_dir=str(run_dir),
        frame_vectors_dir=str(vectors_dir),
        frame_cache_gib=launch.frame_cache_gib,
        limits=launch.limits,
    )

    def prepare() -> None:
        if has_frozen_image_part(config.encoder):
            source = factory.vector_source(choose_device(launch))
            keep_frame_vectors([*clips["train"], *clips["val"]], source, vectors_dir, launch)

    def finish() -> Mapping[str, Any]:
        module = build_classifier(config, classes)
        epoch = load_trained(module, run_dir, keep=config.loop.keep)
        scores = scores_of_epoch(run_dir, epoch)
        card = save_bundle(
            run_dir / BUNDLE,
            video=module.encoder,
            sampling=SamplingConfig(
                num_frames=config.encoder.num_frames,
                frame_size=config.encoder.image_size,
                resize=config.resize,
                color=config.color,
            ),
            head=module.linear_head(),
            labels=classes["label"],
            training_info={"stage": 1, "key": run.key, "epoch": epoch, **scores},
        )
        return {
            "stage": 1,
            "bundle": BUNDLE,
            "encoder_id": card.encoder_id,
            "epoch": epoch,
            "num_train_clips": len(clips["train"]),
            "num_val_clips": len(clips["val"]),
            "num_classes": len(classes["label"]),
            **_decode_report(run_dir),
            **scores,
        }

    return run.complete(factory, prepare=prepare, finish=finish)


def _decode_report(run_dir: Path) -> dict[str, Any]:
    """Decode backends and undecodable clips of all workers."""
    paths = sorted((run_dir / "workers").glob(f"*/{DECODE_REPORT}"))
    backends: set[str] = set()
    dead: dict[str, str] = {}
    for path in paths:
        try:
            report = from_dict(_Decoded, read_json(path), str(path))
        except ValueError as error:  # the weights do not depend on it
            logger.warning("%s; what it said of undecodable clips is lost", error)
            continue
        backends |= set(report.backends)
        dead |= report.dead
    return {"decode_backends": sorted(backends), "dead_clips": dict(sorted(dead.items()))}
