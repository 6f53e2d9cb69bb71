"""Plans an archive: every clip of its source with the content of its video and its key, part by part into a manifest."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from indexing.ledger.archives import ArchiveRows
from indexing.ledger.manifest import Manifest
from indexing.ledger.planned_clip import plan_clips
from indexing.sources.archive import Archive, iter_archive
from indexing.sources.content import Content, read_contents
from indexing.sources.fingerprint import Fingerprint
from indexing.sources.uris import public_uri
from indexing.store.rows import require_storable


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """Where the contents of videos are kept between runs."""

    known: Callable[[Iterable[str]], Mapping[str, Content]]
    """Gives what earlier runs read of these videos."""
    keep: Callable[[Mapping[str, Content]], object] = lambda _read: None
    """Gets what was read now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What the manifest does not hold."""

    fetch_uris: Mapping[str, str]
    """Stored URI -> the one that opens a remote video, of those that have more than is stored."""
    fingerprint: str
    """Of the source; "" where it cannot be told."""


def plan_archive(
    source: str,
    manifest: Manifest,
    *,
    encoder_id: str,
    archive: ArchiveRows,
    contents: Contents,
    on_part: Callable[[int], object] = lambda _num_clips: None,
) -> Planned:
    """Fill an empty manifest; ValueError for a clip that cannot be stored, and for an id that two clips have.

    `on_part` is told the number of clips so far.
    """
    fetch_uris: dict[str, str] = {}
    fingerprint = Fingerprint(source)
    for part in iter_archive(source):
        for clip in part.clips:
            require_storable(clip)
        read = _read(part, contents)
        for clip in part.clips:
            name = clip.video_uri if fingerprint.is_table else clip.clip_id
            fingerprint.add(name, read[clip.video_uri].stamp)
        manifest.add(plan_clips(part.clips, read, encoder_id=encoder_id, archive=archive))
        fetch_uris |= part.fetch_uris
        on_part(manifest.num_clips)
    manifest.require_own_ids(public_uri(source))
    return Planned(fetch_uris=fetch_uris, fingerprint=fingerprint.value())


def _read(part: Archive, contents: Contents) -> Mapping[str, Content]:
    uris = {clip.video_uri for clip in part.clips}
    known = contents.known(uris)
    return read_contents(
        uris, known, fetch_uris=part.fetch_uris, stamps=part.stamps, keep=contents.keep
    )
