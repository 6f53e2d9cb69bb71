"""tfcovr export: ONNX files and canaries, and with another backend the engines that a GPU runs."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from encoders.export.config import ExportConfig

if TYPE_CHECKING:
    from encoders.export.drift import Probe

EXAMPLES = """
  tfcovr export --bundle runs/demo/stage2/bundle --clips runs/demo/archive/clips.parquet
  tfcovr export --bundle BUNDLE --backend tensorrt --clips clips.parquet --triplets triplets.parquet
"""
Exporter = Literal["onnx", "compiled", "tensorrt", "tensorrt-rtx"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Config(ExportConfig):
    """Add ONNX files and canaries to a bundle; with --backend tensorrt also engines for this machine's GPU, with --backend compiled the
    drift of torch.compile in low precision on its GPU or CPU.
    """

    backend: Exporter = "onnx"
    """compiled: torch.compile on this machine's GPU or CPU; tensorrt: engines for the GPU of this machine; tensorrt-rtx: TensorRT for RTX,
    here or ahead of time."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp16"
    """Of engines, whose layer norm is float32 always, and of torch.compile. ONNX files are float32."""
    max_batch_size: int = 64
    """Maximum number of clips in one batch of an engine."""
    compute_capability: str | None = None
    """Build ahead of time for it, e.g. SM89 (tensorrt-rtx); the drift is then not run."""
    triplets: Path | None = None
    """Measure an engine's mAP on triplets of this triplets.parquet; none = on the labels of --clips."""

    def __post_init__(self) -> None:
        ExportConfig.__post_init__(self)
        if self.backend in ("onnx", "compiled") and self.compute_capability is not None:
            raise ValueError(
                "compute_capability is for engines: give --backend tensorrt or tensorrt-rtx"
            )
        if self.backend == "onnx" and self.triplets is not None:
            raise ValueError("triplets is for --backend compiled, tensorrt or tensorrt-rtx")
        if self.triplets is not None and self.clips is None:
            raise ValueError("triplets needs clips: the videos that the triplets name")


def run_export(command: Config) -> list[str]:
    """Do it; the lines to print."""
    from encoders.export.onnx_export import export_onnx
    from encoders.export.tensorrt_export import EngineOptions, add_engines, engine_target

    folder = command.bundle
    options = None
    if command.backend not in ("onnx", "compiled"):
        options = EngineOptions(
            library=command.backend,
            precision=command.precision,
            max_batch_size=command.max_batch_size,
            compute_capability=command.compute_capability,
        )
        engine_target(options)  # before the hours of an export, not after
    report = export_onnx(command)
    lines = [
        f"{folder}: lowest cosine with torch {report.min_cosine:.7f} over {report.num_clips} clips ({report.clips_from})"
    ]
    if command.backend == "compiled":
        from encoders.export.compiled_export import add_compiled

        return [*lines, add_compiled(folder, _probe(command), command.precision).line()]
    if options is None:
        return lines
    return [*lines, add_engines(folder, _probe(command), options).line()]


def _probe(command: Config) -> "Probe":
    from encoders.bundle.card import read_card
    from encoders.export.drift_probe import read_probe, synthetic_probe

    card = read_card(command.bundle)
    has_queries = card.fusion is not None
    if command.clips is None:
        return synthetic_probe(card.sampling, command.num_clips, with_queries=has_queries)
    return read_probe(
        card.sampling,
        command.clips,
        num_clips=command.num_clips,
        triplets_path=command.triplets,
        with_queries=has_queries,
    )


def run(config: Config) -> int:
    """Export, and print what was measured."""
    sys.stdout.write("\n".join(run_export(config)) + "\n")
    return 0
