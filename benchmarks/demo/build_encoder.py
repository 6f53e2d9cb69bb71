"""What makes an archive searchable without labels: a bundle, a published model, or the encoder that comes with tfcovr.

Beside it the layout of an archive folder and the expected seconds of each step.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness.parts import Part
from benchmarks.harness.steps import Step, tfcovr_command
from encoders.bundle.card import CARD_NAME, BundleCard
from encoders.files import hash_file, read_table

SHIPPED_IMAGE = "pose_image_small"
MODELS = "models"


class Paths:
    """Where everything is in an archive folder; a model's folder is laid out as a demo run."""

    def __init__(self, out: Path, *, model: str = "") -> None:
        """Without a `model` its files are those of `out` itself."""
        self.out = out
        self.clips, self.milvus = out / "clips.parquet", out / "milvus"
        self.labelled, self.unlabelled = out / "labelled.parquet", out / "unlabelled.parquet"
        self.model = out / MODELS / model if model else out
        self.triplets = self.model / "triplets.parquet"
        self.stage1, self.stage2 = self.model / "stage1", self.model / "stage2"
        self.vectors = self.model / "vectors.parquet"
        self.index, self.evaluation = self.model / "index", self.model / "evaluate"
        self.encoder = self.model / "encoder"


def step_weights(paths: Paths) -> dict[str, float]:
    """Expected seconds of each step: those of the demo, by the number of clips."""
    scale = len(read_table(paths.clips, ["clip_id"])) / 1260
    fixed = {"triplets": 3, "stage2": 40, "export": 20, "evaluate": 10}
    growing = {"stage1": 140, "vectors": 40, "index": 60}
    return fixed | {name: 8 + seconds * scale for name, seconds in growing.items()}


def encoder_steps(encoder: str | None, paths: Paths) -> list[Step]:
    """An exported bundle without training."""
    steps = []
    if encoder is not None and not _names_bundle(encoder):
        command = tfcovr_command(
            "import-weights", "--source", encoder, "--frozen", "--out", paths.encoder, "--overwrite"
        )
        steps.append(
            Step(
                name="encoder",
                title=f"read {encoder}",
                command=command,
                outputs=(paths.encoder / CARD_NAME,),
                made=lambda: str(paths.encoder),
                weight=20,
            )
        )
    export = Step(
        name="export",
        title="export to ONNX",
        command=tfcovr_command("export", "--bundle", paths.encoder, "--clips", paths.clips),
        outputs=(paths.encoder / "video.onnx",),
        made=lambda: str(paths.encoder / "video.onnx"),
        weight=step_weights(paths)["export"],
    )
    return [*steps, export]


def encoder_parts(encoder: str | None, paths: Paths) -> list[Part]:
    """The bundle, where no command makes it."""
    if encoder is None:
        return [_shipped_part(paths)]
    return [_copied_part(Path(encoder), paths)] if _names_bundle(encoder) else []


def _names_bundle(encoder: str | None) -> bool:
    return encoder is not None and (Path(encoder) / CARD_NAME).is_file()


def _shipped_part(paths: Paths) -> Part:
    def write() -> Mapping[str, Any]:
        write_shipped_encoder(paths.encoder)
        return {}

    return Part(
        name="encoder",
        title="the encoder that comes with tfcovr",
        run=write,
        outputs=(paths.encoder / CARD_NAME,),
        describe=lambda _figures: "poses and motion of one person; no words, no labels",
        weight=5,
    )


def _copied_part(source: Path, paths: Paths) -> Part:
    def copy() -> Mapping[str, Any]:
        shutil.copytree(source, paths.encoder, dirs_exist_ok=True)
        return {}

    return Part(
        name="encoder",
        title=f"copy bundle {source}",
        run=copy,
        key=hash_file(source / CARD_NAME),
        outputs=(paths.encoder / CARD_NAME,),
        weight=1,
    )


def write_shipped_encoder(folder: Path) -> BundleCard:
    """Write the bundle of an encoder without training: the shipped image part and a seeded random temporal part.

    A random projection keeps which clips are near to each other. It knows no labels and no words.
    """
    import torch

    from encoders.bundle.folder import save_bundle
    from encoders.media.sampling import SamplingConfig
    from encoders.video_encoder.config import FrameTemporalConfig
    from encoders.video_encoder.frame_temporal import FrameTemporalEncoder, load_pretrained_image

    config = FrameTemporalConfig(embedding_dim=512, depth=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = FrameTemporalEncoder(config).eval()
    load_pretrained_image(encoder, SHIPPED_IMAGE)
    return save_bundle(
        folder,
        video=encoder,
        sampling=SamplingConfig(num_frames=config.num_frames, frame_size=config.image_size),
        training_info={"stage": 0, "image_part": SHIPPED_IMAGE, "seed": 0},
    )
