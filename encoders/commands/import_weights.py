"""tfcovr import-weights: CLIP, AIM or TF-CoVR weights to an AIM bundle."""

import sys
from collections.abc import Sequence
from pathlib import Path

from encoders.bundle.importer import ImportConfig, ImportResult, import_weights
from encoders.video_encoder.pretrained.aim_weights import SourceWeights, summarize_names


def describe_import(result: ImportResult, out: Path) -> str:
    """What a person is told: one line per question."""
    shape, report, source = result.config, result.report, result.source
    stored = sorted({str(value.dtype).removeprefix("torch.") for value in source.tensors.values()})
    encoder = (
        f"{shape.num_frames} frames of {shape.image_size} px, patch {shape.patch_size}, width {shape.width}, "
        f"depth {shape.depth}, {shape.num_heads} heads, pooling {shape.temporal_pooling}"
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


def _frames_of(source: SourceWeights, name: str) -> int:
    return source.tensors[name].shape[-2]


def main(argv: Sequence[str] | None = None) -> int:
    """`tfcovr import-weights`."""
    import tyro

    config = tyro.cli(ImportConfig, args=argv, config=(tyro.conf.OmitArgPrefixes,))
    sys.stdout.write(describe_import(import_weights(config), config.out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
