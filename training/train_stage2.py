"""How does a stage 2 run go from a stage 1 bundle, clips and triplets to a bundle that answers composed queries?"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoders.bundle import load_bundle, save_bundle
from encoders.card import read_card
from encoders.clips import read_clips
from encoders.text import open_text_encoder
from training.annotations.triplet_table import read_triplets
from training.configs import LaunchSettings, Stage2Config
from training.loop import load_trained
from training.run_folder import BUNDLE, hash_file, open_run
from training.session import TrainingRun, choose_device, complete, scores_of_epoch
from training.stage2 import Stage2Factory, build_composer, vectors_in
from training.vectors import VectorsConfig, compute_vectors


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage2Inputs:
    """Files that a stage 2 run reads."""

    triplets_path: Path
    init_bundle: Path
    """A bundle with the video encoder, which stays as it is."""
    clips_path: Path | None = None
    """Its clips become vectors in the run folder; not needed with `vectors_path`."""
    vectors_path: Path | None = None

    def __post_init__(self) -> None:
        if self.clips_path is None and self.vectors_path is None:
            raise ValueError("clips_path and vectors_path are both None; one is needed")


def train_stage2(
    config: Stage2Config,
    inputs: Stage2Inputs,
    run_dir: Path,
    launch: LaunchSettings | None = None,
) -> dict[str, Any]:
    """Run, or go on, or do nothing if it is done; DIR/bundle is the product. Returns what result.json holds."""
    launch = launch or LaunchSettings()
    run_dir = run_dir.absolute()
    card = read_card(inputs.init_bundle)
    key = open_run(run_dir, stage="stage2", config=config, inputs=_identify(inputs))
    vectors_path = (inputs.vectors_path or vectors_in(run_dir)).absolute()
    factory = Stage2Factory(
        config=config,
        triplets_path=str(inputs.triplets_path.absolute()),
        vectors_path=str(vectors_path),
    )

    def prepare() -> None:
        if inputs.vectors_path is None:
            _make_vectors(config, inputs, vectors_path, launch)

    def finish(run_dir: Path) -> Mapping[str, Any]:
        text = open_text_encoder(config.text)
        module = build_composer(config, text, video_dim=card.embedding_dim)
        epoch = load_trained(module, run_dir, keep=config.loop.keep)
        scores = scores_of_epoch(run_dir, epoch)
        init = load_bundle(inputs.init_bundle)
        made = save_bundle(
            run_dir / BUNDLE,
            video=init.video,
            sampling=init.card.sampling,
            text=module.text or text,
            fusion=module.fusion,
            head=init.head,
            labels=init.card.labels,
            training_info={
                "stage": 2,
                "key": key,
                "epoch": epoch,
                "stage1": dict(card.training),
                **scores,
            },
        )
        if made.encoder_id != card.encoder_id:
            raise RuntimeError(f"encoder_id changed from {card.encoder_id} to {made.encoder_id}")
        return {
            "stage": 2,
            "bundle": BUNDLE,
            "encoder_id": made.encoder_id,
            "bundle_id": made.bundle_id,
            "epoch": epoch,
            **scores,
        }

    return complete(
        TrainingRun(
            title="stage 2",
            run_dir=run_dir,
            key=key,
            loop=config.loop,
            launch=launch,
            factory=factory,
            prepare=prepare,
            finish=finish,
        )
    )


def _identify(inputs: Stage2Inputs) -> dict[str, str]:
    """The encoder and not its files' time: the same stage 1 gives the same vectors."""
    identity = {
        "init_encoder_id": read_card(inputs.init_bundle).encoder_id,
        "triplets": hash_file(inputs.triplets_path),
    }
    if inputs.vectors_path is not None:
        return identity | {"vectors": hash_file(inputs.vectors_path)}
    assert inputs.clips_path is not None
    return identity | {"clips": hash_file(inputs.clips_path)}


def _make_vectors(
    config: Stage2Config, inputs: Stage2Inputs, out: Path, launch: LaunchSettings
) -> None:
    """Of the clips that the triplets of the two splits name."""
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
    compute_vectors(
        VectorsConfig(
            clips=inputs.clips_path,
            bundle=inputs.init_bundle,
            out=out,
            device=choose_device(launch),
            launch=launch,
        ),
        clips,
    )
