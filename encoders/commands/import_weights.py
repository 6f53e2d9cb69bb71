"""tfcovr import-weights: published weights to a bundle."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from encoders.bundle.import_config import ImportConfig as Config

if TYPE_CHECKING:
    from encoders.bundle.frozen_importer import FrozenImport
    from encoders.bundle.importer import ImportResult
    from encoders.bundle.stage2_importer import Stage2Import
    from encoders.video_encoder.pretrained.aim_weights import SourceWeights

EXAMPLES = """
  tfcovr import-weights --source openai/clip-vit-base-patch16 --out runs/clip_b16          # CLIP by name
  tfcovr import-weights --source aim_finegd.pth --out runs/stage1 --labels labels_306.json # a TF-CoVR checkpoint
  tfcovr import-weights --source best_val_9.ckpt --video runs/stage1 --out runs/stage2      # stage 2 of TF-CoVR
  tfcovr import-weights --source runs/stage1 --out runs/stage1_32 --num-frames 32          # 32 frames instead of 12
  tfcovr import-weights --source facebook/vjepa2-vitl-fpc64-256 --frozen --out runs/vjepa2 # as it is, for clip search
"""


def describe_import(result: "ImportResult", out: Path) -> str:
    """What a person is told: one line per question."""
    from encoders.video_encoder.pretrained.aim_weights import summarize_names

    shape, report, source = result.config, result.report, result.source
    stored = sorted({str(value.dtype).removeprefix("torch.") for value in source.tensors.values()})
    encoder = (
        f"{shape.num_frames} frames of {shape.image_size} px, patch {shape.patch_size}, width {shape.width}, "
        f"depth {shape.depth}, {shape.num_heads} heads, adapter scale {shape.adapter_scale:g}, pooling {shape.temporal_pooling}"
    )
    done = "already holds this bundle, nothing written" if result.is_unchanged else "written"
    lines = {
        "source": f"{source.described} ({', '.join(stored)})",
        "encoder": encoder,
        "matched": f"{len(report.matched)} tensors: {summarize_names(report.matched)}",
        "new": summarize_names(report.new) or "nothing",
        "resized": ", ".join(
            f"{name} from {_frames_of(source, name)} to {shape.num_frames} frames"
            for name in report.resized
        )
        or "nothing",
        "ignored": summarize_names(source.ignored) or "nothing",
        "head": result.head_note,
        "bundle": f"{out}: {done} (encoder id {result.card.encoder_id})",
    }
    return "".join(f"{name:<8} {text}\n" for name, text in lines.items())


def describe_stage2(result: "Stage2Import", out: Path) -> str:
    """What a person is told of a stage 2 checkpoint."""
    fusion = result.card.fusion
    assert fusion is not None
    done = "already holds this bundle, nothing written" if result.is_unchanged else "written"
    return (
        f"source   {result.described}\n"
        f"fusion   {fusion.kind}, video {fusion.video_dim}, text {fusion.text_dim}; it reads clip vectors with their own length\n"
        f"bundle   {out}: {done} (encoder id {result.card.encoder_id})\n"
    )


def describe_frozen(result: "FrozenImport", out: Path) -> str:
    """What a person is told of a model that stays as it is."""
    card = result.card
    done = "already holds this bundle, nothing written" if result.is_unchanged else "written"
    asks = "clips and words" if card.fusion is not None else "clips alone"
    return (
        f"source   {result.described}\n"
        f"encoder  {card.sampling.num_frames} frames of {card.sampling.frame_size} px, vectors of {card.embedding_dim}; asked with {asks}\n"
        f"bundle   {out}: {done} (encoder id {card.encoder_id})\n"
    )


def _frames_of(source: "SourceWeights", name: str) -> int:
    return source.tensors[name].shape[-2]


def run(config: Config) -> int:
    """Import, and print what came from where."""
    from encoders.bundle.frozen_importer import FrozenImport
    from encoders.bundle.importer import ImportResult, import_weights

    result = import_weights(config)
    if isinstance(result, ImportResult):
        sys.stdout.write(describe_import(result, config.out))
    elif isinstance(result, FrozenImport):
        sys.stdout.write(describe_frozen(result, config.out))
    else:
        sys.stdout.write(describe_stage2(result, config.out))
    return 0
