"""Planned clips: each clip of an archive with its content hash and its key in Milvus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from encoders.clips import Clip
from indexing.ledger.archives import ArchiveRows
from indexing.ledger.ledger import Outcome
from indexing.sources.content import Content, FileStamp
from indexing.store.rows import clip_key, row_digest


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedClip:
    """A clip with its key; `problem` is set when its video cannot be read at all."""

    clip: Clip
    clip_key: str
    content_hash: str
    stamp: FileStamp | None = None
    problem: str = ""

    def written(self) -> Outcome:
        """The outcome of a clip whose row is in."""
        return Outcome(
            clip_key=self.clip_key,
            clip_id=self.clip.clip_id,
            video_uri=self.clip.video_uri,
            row_digest=row_digest(self.clip),
        )


def plan_clips(
    clips: Sequence[Clip],
    contents: Mapping[str, Content],
    *,
    encoder_id: str,
    archive: ArchiveRows | None = None,
) -> list[PlannedClip]:
    """Every clip with the id and the key that it must have in the collection; None = the only archive, without a name."""
    archive = archive or ArchiveRows()
    planned = []
    for given in clips:
        stored_id = archive.stored_id(given.clip_id)
        clip = given if stored_id == given.clip_id else replace(given, clip_id=stored_id)
        content = contents[clip.video_uri]
        key = clip_key(encoder_id, clip.clip_id, content.content_hash, clip.start_s, clip.end_s)
        planned.append(
            PlannedClip(
                clip=clip,
                clip_key=key,
                content_hash=content.content_hash,
                stamp=content.stamp,
                problem=content.problem,
            )
        )
    return planned
