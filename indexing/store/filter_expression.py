"""Milvus filter expressions: escaped strings and spans of videos."""

from dataclasses import dataclass

from indexing.store.schema import TO_THE_END


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoSpan:
    """A span of a video, for conditions on rows."""

    video_uri: str
    start_s: float
    end_s: float | None

    def outside(self) -> str:
        """True for clips of other videos and for clips that do not overlap with this span."""
        parts = [
            f"video_uri != {quoted(self.video_uri)}",
            f"(end_s > {TO_THE_END} and end_s <= {self.start_s})",
        ]
        if self.end_s is not None:
            parts.append(f"start_s >= {self.end_s}")
        return f"({' or '.join(parts)})"


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"})


def quoted(text: str) -> str:
    """A text as a literal that Milvus Lite and the server both read back unchanged.

    Milvus Lite does not support escapes of other control characters and takes them literally.
    """
    return f'"{text.translate(_ESCAPES)}"'
