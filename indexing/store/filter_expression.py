"""Milvus filter expressions: escaped strings and spans of videos."""

from collections.abc import Sequence
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


def contains(column: str, text: str, *, inside: bool = True) -> str:
    """True where a text column has a text in it, or begins with it. `%` and `_` may stand for anything: check what is found."""
    before = "%" if inside else ""
    return f"{column} like {quoted(f'{before}{text}%')}"


def begins_with(column: str, text: str) -> str:
    """True where a text column begins with a text, letter by letter: in `like`, `_` stands for any, and Milvus Lite knows no escape."""
    after = text[:-1] + chr(ord(text[-1]) + 1)
    return f"({column} >= {quoted(text)} and {column} < {quoted(after)})"


def any_of(conditions: Sequence[str]) -> str:
    """True where at least one condition is.

    As a balanced tree: Milvus takes `a or b or c` as nested, and refuses what is nested about 50 deep.
    """
    if len(conditions) == 1:
        return conditions[0]
    half = len(conditions) // 2
    return f"({any_of(conditions[:half])} or {any_of(conditions[half:])})"
