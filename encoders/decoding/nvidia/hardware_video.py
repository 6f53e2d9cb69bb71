"""What the backends that decode on NVIDIA hardware share: runs of frames, the comparison with the CPU, and the way back to it.

PyavVideo has opened and checked the file and made its index. What the hardware cannot decode exactly goes through it, and
`fallback_reason` says why.
"""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch

from encoders.decoding.frames.color import BT_601, recolor
from encoders.decoding.frames.pixels import OutBufferFor, no_buffer, orient_frame, turn_and_mirrors
from encoders.decoding.nvidia.nvdec_limits import (
    StreamKind,
    device_capability,
    nvdec_unsupported_reason,
    size_class,
)
from encoders.decoding.nvidia.resize import resize_frames
from encoders.decoding.nvidia.trust import TrustedKinds, difference_reason
from encoders.decoding.pyav_video import PyavVideo
from encoders.media.errors import DeviceLostError, is_device_lost
from encoders.media.frame_index import FrameIndex

# Decoded frames that are held at once, as bytes: on the host, and the share of a GPU's free memory.
_HOST_RUN_BYTES = 256 << 20
_DEVICE_RUN_BYTES = (256 << 20, 2 << 30)
_DEVICE_SHARE = 64


class HardwareVideo:
    """A FrameSource over a video that PyavVideo opened. A backend writes `_source_reason` and `_read_run`, which takes every file for BT.601."""

    name: ClassVar[str]
    trusted: ClassVar[TrustedKinds]
    """What this process knows of the backend's frames."""

    def __init__(self, video: PyavVideo, device: str, *, keeps_on_device: bool = False) -> None:
        """`keeps_on_device`: frames are torch tensors where they were decoded, of the size that the video's sampling asks for."""
        self._video = video
        self._device_id = device_number(device)
        self._keeps_on_device = keeps_on_device
        self._num_frames_decoded = 0
        self.last_error = ""
        index = video.index
        self._kind = StreamKind(
            codec=index.codec,
            profile=video.profile,
            pixel_format=video.pixel_format,
            size_class=size_class(index.width, index.height),
        )
        self.fallback_reason: str | None = (
            self._damage_reason()
            or self._source_reason()
            or self._limits_reason()
            or self.trusted.refusal(self._kind)
        )
        if self.fallback_reason is None:
            self._display_matrix, self._matrix_code = video.read_appearance()

    @property
    def index(self) -> FrameIndex:
        return self._video.index

    @property
    def backend_used(self) -> str:
        return self.name if self.fallback_reason is None else "pyav"

    @property
    def num_frames_decoded(self) -> int:
        """The hardware does not tell: counted are the frames from each needed keyframe to the last that is wanted after it."""
        return self._video.num_frames_decoded + self._num_frames_decoded

    def read_frames(
        self, numbers: Iterable[int], out_buffer_for: OutBufferFor = no_buffer
    ) -> Iterator[tuple[int, Any]]:
        """(number, RGB frame as shown [H, W, 3]); None for a frame that cannot be decoded."""
        wanted = sorted(set(numbers))
        if self.fallback_reason is None:
            self.fallback_reason = self._request_reason(wanted)
        per_run = max(self._run_bytes() // (self.index.width * self.index.height * 3), 1)
        while wanted and self.fallback_reason is None:
            now, later = wanted[:per_run], wanted[per_run:]
            if self._video.has_damaged_packet(now):
                self.fallback_reason = (
                    "the file has damaged packets, of which the hardware would make some picture"
                )
                break
            frames_FHWC = self._checked_run(now)
            if frames_FHWC is None:
                break
            self._num_frames_decoded += self.index.num_packets_for(now)
            yield from zip(now, self._shown(frames_FHWC), strict=True)
            wanted = later
        for number, frame_HWC in self._video.read_frames(wanted, out_buffer_for):
            self.last_error = self._video.last_error
            yield number, frame_HWC

    def _source_reason(self) -> str | None:
        """Why this backend does not read the file, whatever decodes it."""
        raise NotImplementedError

    def _request_reason(self, wanted: list[int]) -> str | None:
        """Why it should not be asked for these frames."""
        del wanted
        return None

    def _read_run(self, numbers: list[int]) -> Any:
        """[F, H, W, 3] uint8 in stored orientation, in memory of its own: an array, or a tensor where frames stay on the device."""
        raise NotImplementedError

    def _reset(self) -> None:
        """Let go of what a failure may have broken."""

    def _damage_reason(self) -> str | None:
        """The hardware conceals what is lost, and does not say so; the CPU's decoder does."""
        if self.index.is_truncated:
            return "the file is cut off or cannot be read to its end"
        return "parts of the recording are lost" if self.index.has_gaps else None

    def _limits_reason(self) -> str | None:
        if self._device_id is None:
            return None
        return nvdec_unsupported_reason(
            self.index,
            self._video.pixel_format,
            field_order=self._video.field_order,
            capability=device_capability(self._device_id),
        )

    def _run_bytes(self) -> int:
        """A run of DALI reads the file again, so runs are as long as the memory allows."""
        if not self._keeps_on_device or self._device_id is None or not torch.cuda.is_available():
            return _HOST_RUN_BYTES
        least, most = _DEVICE_RUN_BYTES
        free_bytes, _ = torch.cuda.mem_get_info(self._device_id)
        return min(max(free_bytes // _DEVICE_SHARE, least), most)

    def _checked_run(self, numbers: list[int]) -> Any:
        """The frames, or None with `fallback_reason` set. The first run of a kind of stream is compared with the CPU's frame."""
        try:
            frames_FHWC = self._read_run(numbers)
            expected = (len(numbers), self.index.height, self.index.width, 3)
            if tuple(frames_FHWC.shape) != expected:
                raise RuntimeError(
                    f"frames of shape {tuple(frames_FHWC.shape)} instead of {expected}"
                )
        except RuntimeError as error:
            if is_device_lost(error):
                raise DeviceLostError(f"{self.name} on {self._kind}: {error}") from error
            self._reset()
            self.fallback_reason = f"{self.name} failed: {first_cause(error)}"
            self.trusted.note_failure(self._kind, self.fallback_reason)
            return None
        if not self.trusted.is_believed(self._kind) and not self._is_right(
            numbers[-1], frames_FHWC[-1]
        ):
            return None
        self.trusted.believe(self._kind)
        return frames_FHWC

    def _is_right(self, number: int, frame_HWC: Any) -> bool:
        """Whether a frame is the CPU's; sets `fallback_reason` where it is not, or where there is nothing to compare with."""
        beside = (number - 1, number, number + 1)
        numbers = [n for n in beside if 0 <= n < self.index.num_frames]
        cpu_frames = {
            n: cpu_HWC for n, cpu_HWC in self._video.read_frames(numbers) if cpu_HWC is not None
        }
        if number not in cpu_frames:
            self.fallback_reason = (
                f"{self.name} cannot be compared: the CPU does not decode the frame"
            )
            return False
        on_host = frame_HWC.cpu().numpy() if isinstance(frame_HWC, torch.Tensor) else frame_HWC
        reason = difference_reason(number, self._shown_on_host(on_host), cpu_frames)
        if reason is not None:
            self.trusted.refuse(self._kind, reason)
            self.fallback_reason = self.trusted.refusal(self._kind)
        return reason is None

    def _shown(self, frames_FHWC: Any) -> Any:
        """In the file's colours, and as the display matrix shows them; on a device also resized, the whole run at once."""
        if not self._keeps_on_device:
            return [self._shown_on_host(frame_HWC) for frame_HWC in frames_FHWC]
        if self._matrix_code != BT_601:  # one by one: it computes in float64
            frames_FHWC = torch.stack([recolor(frame, self._matrix_code) for frame in frames_FHWC])
        if self._display_matrix is not None:
            swaps, mirrored = turn_and_mirrors(self._display_matrix)
            turned_FHWC = frames_FHWC.transpose(1, 2) if swaps else frames_FHWC
            frames_FHWC = torch.flip(turned_FHWC, [axis + 1 for axis in mirrored])
        sampling = self._video.sampling
        if sampling is None or sampling.frame_size is None:
            return frames_FHWC
        return resize_frames(frames_FHWC, sampling.frame_size, sampling.resize)

    def _shown_on_host(self, frame_HWC: np.ndarray) -> np.ndarray:
        matrix = self._display_matrix
        frame_HWC = recolor(torch.from_numpy(frame_HWC), self._matrix_code).numpy()
        shown_HWC = frame_HWC if matrix is None else orient_frame(frame_HWC, matrix)
        return self._video.converter.resized(shown_HWC)


def device_number(device: str) -> int | None:
    """The number of `cuda` or `cuda:N`, None of `cpu`; ValueError for anything else."""
    kind, _, number = device.partition(":")
    if kind == "cpu" and not number:
        return None
    if kind == "cuda" and (number or "0").isdigit():
        return int(number or "0")
    raise ValueError(f"device is {device!r}; it must be 'cpu', 'cuda' or 'cuda:N'")


def first_cause(error: RuntimeError) -> str:
    """The line of a long message that says what happened; DALI's has it after "encountered:"."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    after = [
        line for line, before in zip(lines[1:], lines, strict=False) if before == "encountered:"
    ]
    return (after or lines or ["no message"])[0]
