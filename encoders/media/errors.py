"""Decode errors: the reasons why a media file cannot be decoded, and errors of the set-up."""

import re
from typing import Literal

DecodeReason = Literal[
    "fetch_failed",
    "empty_file",
    "container_not_allowed",
    "corrupt_container",
    "no_video_stream",
    "codec_unsupported",
    "limit_exceeded",
    "span_outside_video",
    "too_short",
    "decoder_crashed",
    "decode_timeout",
]


class DecodeError(Exception):
    """One video or one span cannot be decoded; `reason` is for programs, `detail` for people."""

    def __init__(self, reason: DecodeReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: DecodeReason = reason
        self.detail = detail


class DecodeSetupError(RuntimeError):
    """Nothing can be decoded here, whatever the file: raised at once, never a dead letter."""


class DeviceLostError(RuntimeError):
    """The GPU refuses all further work of this process; only a new process can use it."""


# CUDA's sticky errors (CUDA Runtime API, cudaError_t: "leaves the process in an inconsistent state"), by name and by message.
_DEVICE_LOST = re.compile(
    r"illegal (memory access|address|instruction)|unspecified launch failure|misaligned address|invalid (program counter|address space)"
    r"|hardware stack error|device-side assert|uncorrectable (ECC|NVLink) error|launch timed out"
    r"|CUDA_?ERROR_?(ILLEGAL|LAUNCH_(FAILED|TIMEOUT)|MISALIGNED|INVALID_(PC|ADDRESS_SPACE)|HARDWARE_STACK|ASSERT|ECC)",
    re.IGNORECASE,
)


def is_device_lost(error: BaseException) -> bool:
    """Whether an error, whoever reports it, is one after which CUDA works no more in this process."""
    return isinstance(error, DeviceLostError) or bool(_DEVICE_LOST.search(str(error)))
