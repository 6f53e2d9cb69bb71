"""Plans an archive: every clip of its source with the content of its video and its key, part by part into a manifest."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from indexing.ledger.archives import ArchiveRows
from indexing.ledger.manifest import Manifest
from indexing.ledger.planned_clip import plan_clips
from indexing.sources.archive import Archive, iter_archive
from indexing.sources.changes import changed_since
from indexing.sources.content import Content, ReadLocal, read_contents
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
    read_local: ReadLocal | None = None
    """Reads local files; None = in this process."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is planned."""

    clips: str
    """See IndexConfig."""
    since_s: float | None = None
    """Seconds since 1970: only clips whose video changed since then; None = all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What the manifest does not hold."""

    fetch_uris: Mapping[str, str] = field(repr=False)
    """Stored URI -> the one that opens a remote video, of those that have more than is stored."""
    fingerprint: str
    """Of the source; "" where it cannot be told, or is not planned as a whole."""


def plan_archive(
    source: Source,
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
    since_s = source.since_s
    fingerprint = Fingerprint(source.clips)
    for listed in iter_archive(source.clips):
        part = listed if since_s is None else changed_since(listed, since_s)
        for clip in part.clips:
            require_storable(clip)
        read = _read(part, contents)
        for clip in part.clips:
            fingerprint.add(clip, read[clip.video_uri].stamp)
        manifest.add(plan_clips(part.clips, read, encoder_id=encoder_id, archive=archive))
        fetch_uris |= part.fetch_uris
        on_part(manifest.num_clips)
    manifest.require_own_ids(public_uri(source.clips))
    whole = fingerprint.value() if since_s is None else ""
    return Planned(fetch_uris=fetch_uris, fingerprint=whole)


def _read(part: Archive, contents: Contents) -> Mapping[str, Content]:
    uris = {clip.video_uri for clip in part.clips}
    known = contents.known(uris)
    return read_contents(
        uris,
        known,
        fetch_uris=part.fetch_uris,
        stamps=part.stamps,
        keep=contents.keep,
        read_local=contents.read_local,
    )
