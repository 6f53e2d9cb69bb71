"""Exports picks in the format that a file's name says."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cluster.storage import write_atomic
from indexing.handoff.cuts import Cut, Pick, make_cuts
from indexing.handoff.edl import write_edl
from indexing.handoff.in_seconds import write_llc, write_osl, write_vtt
from indexing.handoff.premiere_xml import write_premiere_xml
from indexing.handoff.timelines import write_fcpxml, write_otio

FORMATS: dict[str, Callable[[Sequence[Cut], str], str]] = {
    ".otio": write_otio,
    ".edl": write_edl,
    ".fcpxml": write_fcpxml,
    ".xml": write_premiere_xml,
    ".vtt": write_vtt,
    ".llc": write_llc,
    ".json": write_osl,
}
"""Suffix -> writer of cuts under a title."""


def require_format(path: Path) -> None:
    """ValueError for a file name that no writer is for, or a folder that does not exist."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"export is {str(path)!r}; its name must end in one of {', '.join(FORMATS)}"
        )
    if not path.resolve().parent.is_dir():
        raise ValueError(f"export is {str(path)!r}, and there is no folder {path.resolve().parent}")


def export_picks(picks: Sequence[Pick], paths: Sequence[Path]) -> list[Cut]:
    """Write every file, or none; the cuts in them.

    ValueError for picks that a format cannot hold, DecodeError for a video that cannot be read.
    """
    for path in paths:
        require_format(path)
    cuts = make_cuts(picks)
    texts = [FORMATS[path.suffix.lower()](cuts, path.stem) for path in paths]
    for path, text in zip(paths, texts, strict=True):
        write_atomic(path, text)
    return cuts
