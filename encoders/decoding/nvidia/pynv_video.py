"""Frames of one local video through PyNvVideoCodec, NVIDIA's own binding of NVDEC.

It gets packets, not files: PyavVideo's demuxer reads them, from the keyframe of the wanted frame on, each numbered by its place in
the file, and a frame is told by the number that comes back with it. So files of any length do, and fields or packets without a
frame do not shift the count.
"""

import ctypes
from collections import defaultdict
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.decoding.nvidia.hardware_video import HardwareVideo
from encoders.decoding.nvidia.trust import TrustedKinds
from encoders.media.errors import DecodeSetupError

FILTERS = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
"""Codec -> FFmpeg's bitstream filter that makes its packets the elementary stream that NVDEC parses."""
# ITU-R BT.601: red, green and blue of (Y, Cb, Cr). As in FrameConverter, whatever matrix the file names.
_BT_601 = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


class PynvVideo(HardwareVideo):
    """See HardwareVideo."""

    name = "pynv"
    trusted = TrustedKinds()

    def _source_reason(self) -> str | None:
        index = self._video.index
        if self._device_id is None:
            return "pynv decodes on a GPU only"
        if index.codec not in FILTERS:
            return f"pynv is not given {index.codec}"
        if index.decoded is not None:
            return "the file's packets do not tell which frames it shows, and when"
        _library()
        return None

    def _read_run(self, numbers: list[int]) -> Any:
        numbers_by_start: defaultdict[int, list[int]] = defaultdict(list)
        for number in numbers:
            numbers_by_start[self.index.start_position(number)].append(number)
        session = _Session(self._video.index.codec, self._device_id or 0)
        frames: dict[int, Tensor] = {}
        for start, wanted in sorted(numbers_by_start.items()):
            frames |= self._read_group(session, start, set(wanted))
        if missing := sorted(set(numbers) - set(frames)):
            raise RuntimeError(f"frame {missing[0]} did not come out of the decoder")
        frames_FHWC = torch.stack([frames[number] for number in numbers])
        return frames_FHWC if self._keeps_on_device else frames_FHWC.cpu().numpy()

    def _read_group(self, session: "_Session", start: int, wanted: set[int]) -> dict[int, Tensor]:
        """The wanted frames that decode from one keyframe."""
        frames: dict[int, Tensor] = {}

        def take(decoded: list[Any]) -> None:
            for frame in decoded:
                numbers = self.index.numbers_of_position.get(frame.getPTS(), ())
                if len(numbers) == 1 and numbers[0] in wanted:
                    frames[numbers[0]] = self._rgb(torch.from_dlpack(frame))

        for position, data in self._video.elementary_packets(start, FILTERS[self.index.codec]):
            take(session.decode(data, position))
            if len(frames) == len(wanted):
                break
        take(session.flush())
        return frames

    def _rgb(self, nv12: Tensor) -> Tensor:
        """A copy before the decoder writes its memory again."""
        rgb_HWC = nv12_to_rgb(
            nv12, self.index.height, self.index.width, is_full_range=self._video.is_full_range
        )
        if rgb_HWC.is_cuda:
            torch.cuda.current_stream(rgb_HWC.device).synchronize()
        return rgb_HWC


class _Session:
    """One decoder on one NVDEC engine."""

    def __init__(self, codec: str, device_id: int) -> None:
        self._library = _library()
        self._decoder = self._library.CreateDecoder(
            gpuid=device_id,
            codec=getattr(self._library.cudaVideoCodec, codec.upper()),
            usedevicememory=True,
            outputColorType=self._library.OutputColorType.NATIVE,
        )

    def decode(self, data: bytes, position: int) -> list[Any]:
        """The frames that come out when one more packet goes in."""
        held = ctypes.create_string_buffer(data, len(data))  # until Decode has read it
        packet = self._library.PacketData()
        packet.bsl_data, packet.bsl, packet.pts = ctypes.addressof(held), len(data), position
        return list(self._decoder.Decode(packet))

    def flush(self) -> list[Any]:
        """The frames that it still holds."""
        return list(self._decoder.Decode(self._library.PacketData()))


@cache
def _library() -> Any:
    """The module; ImportError names the extra, DecodeSetupError a missing driver."""
    try:
        import PyNvVideoCodec  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            f"decoding with pynv needs the package 'pynvvideocodec': pip install -e '.[pynv]' ({error})"
        ) from error
    except (OSError, RuntimeError) as error:  # the module loads the driver's libraries
        raise DecodeSetupError(f"PyNvVideoCodec does not load here: {error}") from error
    return PyNvVideoCodec


def nv12_to_rgb(nv12: Tensor, height: int, width: int, *, is_full_range: bool) -> Tensor:
    """uint8 NV12 [>= H * 3 / 2, >= W] -> uint8 RGB [H, W, 3] by BT.601, to a level of what FrameConverter makes.

    Rows of luma first, then rows of interleaved Cb and Cr at half the size; decoders pad to whole blocks.
    """
    num_luma_rows = len(nv12) * 2 // 3
    luma_HW = nv12[:height, :width].float()
    chroma = nv12[num_luma_rows : num_luma_rows + height // 2, :width]
    chroma_2HW = chroma.reshape(height // 2, width // 2, 2).permute(2, 0, 1).float()
    # Between the samples both ways, as FFmpeg's converter places them here.
    chroma_2HW = F.interpolate(chroma_2HW[None], scale_factor=2, mode="bilinear")[0] - 128.0
    if not is_full_range:  # 16 to 235, 16 to 240
        luma_HW, chroma_2HW = (luma_HW - 16.0) * (255 / 219), chroma_2HW * (255 / 224)
    matrix = torch.tensor(_BT_601, dtype=torch.float32, device=nv12.device)
    rgb_3HW = torch.tensordot(matrix, torch.stack([luma_HW, *chroma_2HW]), dims=1)
    return rgb_3HW.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()
