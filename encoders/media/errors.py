"""Decode errors: the reasons why a media file cannot be decoded, and errors of the set-up."""

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
