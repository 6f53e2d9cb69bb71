"""Run a bundle's video encoder with torch.compile, in a precision whose drift was measured on this device.

Texts and fusion stay in float32. N clips, D clip vector.
"""

from pathlib import Path

import torch
from torch import Tensor

from encoders.backends.base import BackendSettings, check_clip_frames
from encoders.backends.torch_backend import TorchBackend
from encoders.bundle.card import BundleCard, BundleMismatchError, read_card
from encoders.bundle.engine_records import (
    PRECISION_NAMES,
    EngineRecord,
    EngineTarget,
    Precision,
    Reduced,
    choose_engine,
    find_engines,
)
from encoders.video_encoder.compiled import CompiledVideo


class CompiledEncoder(TorchBackend):
    """As TorchBackend, compiled when it is opened, for batches of any size."""

    kind = "compiled"

    def __init__(
        self, settings: BackendSettings, *, precision: Precision, reduced: Reduced = "most"
    ) -> None:
        super().__init__(settings)
        self.precision = PRECISION_NAMES[precision]
        self._compiled = CompiledVideo(
            self._bundle.video,
            getattr(torch, self.precision),
            is_autocast=precision != "fp32" and reduced == "products",
        )
        size = self.card.video.image_size
        shape = (2, self.card.sampling.num_frames, size, size, 3)
        # Now, and not amid the first batch, whose time and deadline are those of its clips.
        self._compiled(torch.zeros(shape, dtype=torch.uint8, device=self._device))

    def embed_tensor_with_length(self, frames_NTHWC: Tensor) -> tuple[Tensor, Tensor]:
        """As TorchBackend."""
        check_clip_frames(self.card, frames_NTHWC)
        return self._compiled(frames_NTHWC)


class CompiledBackend(CompiledEncoder):
    """In the fastest precision that the card has a drift inside the limits for, on this device and with this torch."""

    def __init__(self, settings: BackendSettings) -> None:
        card = read_card(settings.bundle_dir)
        record = find_compiled(card, settings.bundle_dir, device=settings.device)
        super().__init__(settings, precision=record.precision, reduced=record.reduced)


def compiled_target(device: str) -> EngineTarget:
    """What compiles on a device here."""
    if device == "cpu":
        gpu, capability = "cpu", torch.backends.cpu.get_cpu_capability()
    else:
        gpu = torch.cuda.get_device_name(device)
        capability = "SM{}{}".format(*torch.cuda.get_device_capability(device))
    return EngineTarget(
        library="torch", version=torch.__version__, gpu=gpu, compute_capability=capability
    )


def has_compiled(card: BundleCard, *, device: str) -> bool:
    """Whether the card has a drift measured on this device; one that is too large is an error where it is opened."""
    return bool(find_engines(card.engines, compiled_target(device), card.files))


def find_compiled(card: BundleCard, bundle_dir: Path, *, device: str) -> EngineRecord:
    """The record to run here; BundleMismatchError says what the bundle has instead, DriftError what its drift is."""
    records = find_engines(card.engines, compiled_target(device), card.files)
    if not records:
        held = "; ".join(record.line() for record in card.engines) or "none"
        raise BundleMismatchError(
            f"{bundle_dir} has no drift of torch.compile on this device and version (it has: {held}); measure it with: "
            f"tfcovr export --backend compiled --bundle {bundle_dir}"
        )
    return choose_engine(records, what=str(bundle_dir))
