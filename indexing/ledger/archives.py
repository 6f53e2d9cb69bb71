"""Archives of a collection: each owns the rows whose clip ids carry its name, and a run touches no other rows.

The first archive of a collection has no name, so that its clip ids are those of its clips.parquet or its paths; the ids of every
other one begin with `NAME:`. The collection records the source of each archive in its properties. Keys of rows are made of these
ids: rows that were written before archives had names belong to the archive without a name, under the keys that they have.
"""

import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from indexing.ledger.ledger import Ledger
from indexing.sources.archive import ArchiveRequest
from indexing.sources.uris import is_remote, name_of
from indexing.store.collection import ARCHIVE, ClipCollection
from indexing.store.filter_expression import begins_with
from indexing.store.lease import Protected, hold_lease

_SEPARATOR = ":"
_CHANGES = "tfcovr.changes."
_WAIT_S = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchiveRows:
    """The rows of one archive in a collection."""

    name: str = ""
    others: frozenset[str] = frozenset()
    """Names of the other archives of the collection."""

    def stored_id(self, clip_id: str) -> str:
        """The id under which a clip of this archive is stored. ValueError where it would be one of another archive's."""
        stored = f"{self.name}{_SEPARATOR}{clip_id}" if self.name else clip_id
        if not self.owns(stored):
            raise ValueError(
                f"clip {clip_id!r} would be taken for one of archive {stored.partition(_SEPARATOR)[0]!r}, which the collection "
                "holds too; give --archive NAME"
            )
        return stored

    def owns(self, clip_id: str) -> bool:
        """Whether a row with this clip id is one of this archive's."""
        name, separator, _ = clip_id.partition(_SEPARATOR)
        if self.name:
            return bool(separator) and name == self.name
        return not (separator and name in self.others)

    def count(self, collection: ClipCollection) -> int:
        """Number of rows of this archive in a collection."""
        others = () if self.name else self.others
        return collection.count(condition=self.condition()) - sum(
            collection.count(condition=_begins_with(other)) for other in others
        )

    def condition(self) -> str:
        """A Milvus condition that all rows of this archive meet, and for an archive without a name those of others too."""
        return _begins_with(self.name) if self.name else ""


def open_archive(collection: ClipCollection, request: ArchiveRequest) -> ArchiveRows:
    """The rows of the requested archive, which the collection records from now on.

    ValueError where they may be the rows of another archive.
    """
    protected = Protected(
        whole=f"archives of {collection.name}",
        busy=f"the list of archives of collection {collection.name!r} is being changed",
    )
    with hold_lease(collection.address, protected, wait_s=_WAIT_S):
        rows, sources = _find(collection, request)
        if sources.get(rows.name) != request.source:
            collection.set_properties({f"{ARCHIVE}{rows.name}": request.source})
    return rows


def mark_changes(
    collection: ClipCollection, archive: ArchiveRows, ledger: Ledger, *, trusts: bool
) -> str:
    """A new mark of the archive in the collection's properties, before something of it changes; the same mark later, the same rows.

    Where it follows another than the ledger's, or nothing is to be trusted, what the ledger says of the rows is forgotten.
    """
    mark, before = uuid.uuid4().hex[:12], read_mark(collection, archive)
    collection.set_properties({f"{_CHANGES}{archive.name}": mark})
    ledger.begin(mark, trusts=trusts and before == ledger.mark())
    return mark


def read_mark(collection: ClipCollection, archive: ArchiveRows) -> str:
    """The mark of the last that changed rows of the archive, or ""."""
    return collection.properties().get(f"{_CHANGES}{archive.name}", "")


def find_archive(collection: ClipCollection, request: ArchiveRequest) -> ArchiveRows:
    """As `open_archive`, for commands that only read: also ValueError for an archive that the collection does not know."""
    rows, sources = _find(collection, request)
    if rows.name and rows.name not in sources and request.name is None:
        known = "; ".join(f"{name!r} of {source}" for name, source in sorted(sources.items()))
        raise ValueError(
            f"collection {collection.name!r} has no archive of {request.source!r}; it has {known}; give its --archive, or index it first"
        )
    return rows


def _find(
    collection: ClipCollection, request: ArchiveRequest
) -> tuple[ArchiveRows, dict[str, str]]:
    sources = collection.archives()
    has_rows = bool(collection.some_rows(["clip_key"], limit=1))
    name = choose_archive(request, sources, has_rows=has_rows)
    if name and name not in sources and collection.count(condition=_begins_with(name)):
        if request.name is not None:
            raise ValueError(
                f"archive is {name!r}, and collection {collection.name!r} holds clips of another archive whose ids begin with "
                f"{name + _SEPARATOR!r}; give another --archive"
            )
        name = f"{name}-{_digest(request.source)}"
    return ArchiveRows(name=name, others=frozenset(sources) - {name, ""}), sources


def choose_archive(request: ArchiveRequest, sources: Mapping[str, str], *, has_rows: bool) -> str:
    """The name of the requested archive. ValueError where it cannot be told from another archive."""
    recorded_name, recorded_source = request.recorded or (None, None)
    if not request.is_recorded_here and sources.get(recorded_name or "") != recorded_source:
        recorded_name, recorded_source = None, None
    name = request.name
    if name is None and recorded_name is not None:
        is_same = recorded_source == request.source or request.is_moved
        name = recorded_name if is_same else None
    if name is None:
        name = next((known for known, s in sources.items() if s == request.source), None)
    if name is None and recorded_name is not None:
        raise ValueError(
            f"clips is {request.source!r}, and the run folder is that of {recorded_source!r}; give another archive a run folder of "
            "its own, or index it with --moved where it is the same archive, elsewhere or listed in another way"
        )
    if name is None and not sources:
        if has_rows:
            raise ValueError(
                "the collection holds rows and no record of their archive (an earlier version wrote them); give --archive '' "
                "where they are of this archive, or --archive NAME to keep this one apart"
            )
        name = ""
    if name is None:
        name = _default_name(request.source, sources)
    earlier = sources.get(name, recorded_source if name == recorded_name else None)
    if earlier not in (None, request.source) and not request.is_moved:
        raise ValueError(
            f"archive {name!r} of the collection is {earlier!r}, and clips is {request.source!r}; give another --archive, or "
            "index it with --moved where it is the same archive, elsewhere or listed in another way"
        )
    return name


def _default_name(source: str, taken: Mapping[str, str]) -> str:
    """After the folder or table of the archive."""
    path = name_of(source) if is_remote(source) else PurePosixPath(source)
    parts = [part for part in path.parts if not re.search(r"[*?\[]", part)]
    is_table = path.suffix == ".parquet"
    if is_table and path.stem == "clips" and len(parts) > 1:
        parts = parts[:-1]
    last = parts[-1].removesuffix(".parquet") if parts else ""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-._")[:48] or "archive"
    return f"{name}-{_digest(source)}" if name in taken else name


def _begins_with(name: str) -> str:
    return begins_with("clip_id", name + _SEPARATOR)


def _digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()[:6]
