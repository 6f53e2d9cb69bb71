"""Stage 2 run: a stage 1 bundle, clips and triplets to a bundle that answers composed queries."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch

from cluster.storage import write_atomic
from encoders.bundle.calibration import Calibration
from encoders.bundle.card import BundleCard, read_card
from encoders.bundle.folder import Bundle, load_bundle, save_bundle
from encoders.clips import Clip, read_clips
from encoders.files import read_json, read_table
from encoders.query_encoder.factors import Factor, factors_from_list, factors_to_list
from encoders.query_encoder.text_encoder import TextEncoder
from training.annotations.triplets.table import read_triplets
from training.configs import LaunchSettings, Stage2Config
from training.losses import loss_of
from training.stage2.calibrate import Calibrator
from training.stage2.composer import QueryComposer
from training.stage2.factors import read_factors, read_label_directions
from training.stage2.task import (
    Stage2Factory,
    build_composer,
    open_text,
    select_triplets,
    vectors_in,
)
from training.trainer.loop import load_trained
from training.trainer.run_folder import BUNDLE, hash_file
from training.trainer.session import TrainingRun, choose_device, scores_of_epoch
from training.vectors.compute import VectorsConfig, compute_vectors
from training.vectors.tables import read_lengths, read_unit_vectors, vector_width

COMPOSER = "composer.safetensors"
FACTORS = "factors.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage2Inputs:
    """Files that a stage 2 run reads."""

    triplets_path: Path
    init_bundle: Path | None = None
    """Bundle with the video encoder, which stays as it is; None = train on given vectors and make no bundle."""
    clips_path: Path | None = None
    """Clips whose vectors are computed in the run folder. With `vectors_path` only their attributes are read, for factors."""
    vectors_path: Path | None = None

    def __post_init__(self) -> None:
        if self.clips_path is None and self.vectors_path is None:
            raise ValueError("clips_path and vectors_path are both None; one is needed")
        if self.init_bundle is None and self.vectors_path is None:
            raise ValueError("init_bundle and vectors_path are both None; clips need an encoder")


def train_stage2(
    config: Stage2Config,
    inputs: Stage2Inputs,
    run_dir: Path,
    launch: LaunchSettings | None = None,
) -> dict[str, Any]:
    """Start, resume, or skip a finished run; returns the content of result.json.

    Writes DIR/bundle, or DIR/composer.safetensors without a video encoder.
    """
    loss_of(config)  # told before the run folder is made
    launch = launch or LaunchSettings()
    _check_inputs(config, inputs)
    identity = _identify(inputs, reads_attributes=config.fusion == "factored")
    run = TrainingRun("stage2", config, run_dir, launch, inputs=identity)
    run_dir = run.run_dir
    vectors_path = (inputs.vectors_path or vectors_in(run_dir)).absolute()
    factory = Stage2Factory(
        config=config,
        triplets_path=str(inputs.triplets_path.absolute()),
        vectors_path=str(vectors_path),
        clips_path=None if inputs.clips_path is None else str(inputs.clips_path.absolute()),
        init_bundle=None if inputs.init_bundle is None else str(inputs.init_bundle.absolute()),
    )

    def prepare() -> None:
        if inputs.vectors_path is None:
            _make_vectors(config, inputs, vectors_path, launch)
        _write_factors(config, inputs, vectors_path, run_dir)

    def finish() -> Mapping[str, Any]:
        module, text, epoch = load_composer(config, run_dir, vectors_path)
        scores = scores_of_epoch(run_dir, epoch)
        if inputs.init_bundle is None:
            write_atomic(run_dir / COMPOSER, safetensors.torch.save(module.state_dict()))
            return {"stage": 2, "bundle": None, "composer": COMPOSER, "epoch": epoch, **scores}
        info = {"stage": 2, "key": run.key, "epoch": epoch, **scores}
        calibration = _calibrate(config, inputs.triplets_path, vectors_path, module, text)
        init = load_bundle(inputs.init_bundle)
        made = _save_with_video(run_dir / BUNDLE, init, module, text, calibration, info)
        return {
            "stage": 2,
            "bundle": BUNDLE,
            "encoder_id": made.encoder_id,
            "bundle_id": made.bundle_id,
            "epoch": epoch,
            **scores,
        }

    return run.complete(factory, prepare=prepare, finish=finish)


def load_composer(
    config: Stage2Config, run_dir: Path, vectors_path: Path
) -> tuple[QueryComposer, TextEncoder, int]:
    """The trained module of a run, the text encoder of its queries, and the epoch of the weights."""
    text = open_text(config)
    width, factors = vector_width(vectors_path), _read_factors(run_dir)
    module = build_composer(config, text, video_dim=width, factors=factors)
    epoch = load_trained(module, run_dir, keep=config.loop.keep)
    module.eval()
    return module, module.text or text, epoch


def _write_factors(
    config: Stage2Config, inputs: Stage2Inputs, vectors_path: Path, run_dir: Path
) -> None:
    """The factors of the run, which its weights have the shape of."""
    if config.fusion != "factored":
        return
    triplets = read_triplets(inputs.triplets_path)
    chosen = select_triplets(triplets, read_unit_vectors(vectors_path), config)
    directions = read_label_directions(config, inputs.init_bundle)
    table = read_factors(config, chosen["train"], inputs.clips_path, directions)
    write_atomic(run_dir / FACTORS, json.dumps(factors_to_list(table.factors), indent=1))


def _read_factors(run_dir: Path) -> tuple[Factor, ...]:
    path = run_dir / FACTORS
    return factors_from_list(read_json(path, list)) if path.exists() else ()


def _calibrate(
    config: Stage2Config,
    triplets_path: Path,
    vectors_path: Path,
    module: QueryComposer,
    text: TextEncoder,
) -> Calibration:
    vectors = read_unit_vectors(vectors_path)
    triplets = select_triplets(read_triplets(triplets_path), vectors, config)
    lengths = read_lengths(vectors_path) if config.keeps_length else None
    return Calibrator(module.fusion, text, triplets, vectors, lengths=lengths).fit()


def _save_with_video(
    folder: Path,
    init: Bundle,
    module: QueryComposer,
    text: TextEncoder,
    calibration: Calibration,
    info: dict[str, Any],
) -> BundleCard:
    """Save the initial bundle with the trained text encoder, fusion and calibration."""
    made = save_bundle(
        folder,
        video=init.video,
        sampling=init.card.sampling,
        text=text,
        fusion=module.fusion,
        head=init.head,
        labels=init.card.labels,
        calibration=calibration,
        training_info={**info, "stage1": dict(init.card.training)},
    )
    if made.encoder_id != init.card.encoder_id:
        raise RuntimeError(f"encoder_id changed from {init.card.encoder_id} to {made.encoder_id}")
    return made


def _identify(inputs: Stage2Inputs, *, reads_attributes: bool) -> dict[str, str]:
    """Identify the initial bundle by its encoder id: the same stage 1 gives the same vectors."""
    identity = {"triplets": hash_file(inputs.triplets_path)}
    if inputs.init_bundle is not None:
        identity["init_encoder_id"] = read_card(inputs.init_bundle).encoder_id
    if inputs.vectors_path is not None:
        identity["vectors"] = hash_file(inputs.vectors_path)
        if reads_attributes and inputs.clips_path is not None:
            identity["clips"] = hash_file(inputs.clips_path)
        return identity
    assert inputs.clips_path is not None
    return identity | {"clips": hash_file(inputs.clips_path)}


def _check_inputs(config: Stage2Config, inputs: Stage2Inputs) -> None:
    """ValueError for splits without triplets and triplets without clips, before the run folder is made."""
    triplets = read_triplets(inputs.triplets_path)
    if inputs.vectors_path is not None:
        ids = set(read_table(inputs.vectors_path, ["clip_id"])["clip_id"].to_pylist())
    else:
        ids = {clip.clip_id for clip in _named_clips(config, inputs)}
    select_triplets(triplets, ids, config)


def _named_clips(config: Stage2Config, inputs: Stage2Inputs) -> list[Clip]:
    """The clips that triplets of the two splits name; ValueError where the table lacks one."""
    assert inputs.clips_path is not None
    splits = (config.train_split, config.val_split)
    triplets = [t for t in read_triplets(inputs.triplets_path) if t.split in splits]
    named = {clip_id for t in triplets for clip_id in (t.query_clip_id, *t.target_clip_ids)}
    clips = [clip for clip in read_clips(inputs.clips_path) if clip.clip_id in named]
    missing = named - {clip.clip_id for clip in clips}
    if missing:
        raise ValueError(
            f"{inputs.clips_path} lacks {len(missing)} clips of the triplets, first: {sorted(missing)[:3]}"
        )
    return clips


def _make_vectors(
    config: Stage2Config, inputs: Stage2Inputs, out: Path, launch: LaunchSettings
) -> None:
    assert inputs.clips_path is not None
    assert inputs.init_bundle is not None
    compute_vectors(
        VectorsConfig(
            clips=inputs.clips_path,
            bundle=inputs.init_bundle,
            out=out,
            device=choose_device(launch),
            launch=launch,
        ),
        _named_clips(config, inputs),
    )
