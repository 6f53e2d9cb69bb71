"""Manifests of made-up clips."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from encoders.clips import Clip
from indexing.ledger.archives import ArchiveRows
from indexing.ledger.ledger import Ledger
from indexing.ledger.manifest import Manifest
from indexing.ledger.planned_clip import PlannedClip


def planned_clip(clip_id: str, key: str, problem: str = "", **fields) -> PlannedClip:
    """A planned clip with this key."""
    clip = Clip(**{"clip_id": clip_id, "video_uri": f"/{clip_id}.mp4"} | fields)
    return PlannedClip(clip=clip, clip_key=key, content_hash="", problem=problem)


@contextmanager
def open_manifest(
    folder: Path,
    planned: Sequence[PlannedClip],
    stored: Iterable[tuple[str, str]],
    archive: ArchiveRows | None = None,
) -> Iterator[Manifest]:
    """A manifest of these clips beside rows as (clip_key, clip_id), with the ledger of the folder."""
    with Ledger(folder) as ledger:
        manifest = Manifest(ledger, folder)
        try:
            manifest.add(planned)
            manifest.require_own_ids("here")
            manifest.read_rows(stored, archive or ArchiveRows())
            yield manifest
        finally:
            manifest.close()
