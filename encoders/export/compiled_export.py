"""The drift of torch.compile in low precision: measured on this machine's device, and added to the card inside the limits."""

import logging
from pathlib import Path

import torch

from encoders.backends.base import BackendSettings
from encoders.backends.compiled_backend import CompiledEncoder, compiled_target
from encoders.backends.registry import open_backend
from encoders.bundle.card import read_card
from encoders.bundle.engine_records import (
    REDUCED,
    DriftError,
    DriftLimits,
    EngineRecord,
    Precision,
)
from encoders.bundle.folder import VIDEO_WEIGHTS
from encoders.export.drift import Probe, measure_drift
from encoders.export.engine_files import add_engine

logger = logging.getLogger(__name__)


def add_compiled(bundle_dir: Path, probe: Probe, precision: Precision) -> EngineRecord:
    """Measure against torch in float32 on the GPU, where there is one, else on the CPU; DriftError where it is too far off.

    fp16 and bf16 first round the elementwise work too; where that drifts too far, matrix products alone.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = BackendSettings(bundle_dir=bundle_dir, device=device)
    reference = open_backend(bundle_dir, "torch", device=device)
    card = read_card(bundle_dir)
    problems: list[str] = []
    for reduced in REDUCED if precision != "fp32" else REDUCED[:1]:
        encoder = CompiledEncoder(settings, precision=precision, reduced=reduced)
        drift = measure_drift(reference, {"compiled": encoder}, probe)["compiled"]
        problems = DriftLimits().problems(drift)
        if not problems:
            record = EngineRecord(
                target=compiled_target(device),
                precision=precision,
                reduced=reduced,
                max_batch_size=0,
                graphs={VIDEO_WEIGHTS: card.files[VIDEO_WEIGHTS]},
                files={},
                drift=drift,
                onnx_drift=None,
            )
            return add_engine(bundle_dir, record)
        logger.warning("%s, %s in low precision: %s", precision, reduced, problems)
    raise DriftError(
        f"{bundle_dir}: compiled in {precision} it is too far from torch over {len(probe.frames_NTHWC)} clips ({probe.source}), "
        f"so nothing was added: {'; '.join(problems)}"
    )
