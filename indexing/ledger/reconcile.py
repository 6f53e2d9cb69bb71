"""Compares the rows of a collection with the planned clips."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from indexing.ledger.archives import ArchiveRows
from indexing.ledger.planned_clip import PlannedClip


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Every planned clip is in exactly one of present, missing, dead and unreadable."""

    present: tuple[PlannedClip, ...]
    missing: tuple[PlannedClip, ...]
    """Have no row and no reason for it."""
    dead: tuple[PlannedClip, ...]
    """Failed for good with this very content."""
    unreadable: tuple[PlannedClip, ...]
    """The video is not there at the moment; a row of former content is kept and is not stale."""
    stale: Mapping[str, tuple[str, ...]]
    """Clip id -> keys of rows of former content, span or dead content."""
    orphaned: Mapping[str, str]
    """Key -> clip id of rows whose clip the archive does not have."""
    duplicate: Mapping[str, str]
    """Key -> clip id of keys that more than one row has."""
    num_rows: int
    """Of the archive, by key."""

    def require_few_orphans(self, max_share: float) -> None:
        """ValueError where the rows of clips that the archive does not have are more than a share of its rows."""
        num_orphans = len(self.orphaned)
        if num_orphans > max_share * self.num_rows:
            raise ValueError(
                f"{num_orphans} of {self.num_rows} rows ({num_orphans / self.num_rows:.0%}) are of clips that --clips does not list, "
                f"first {min(self.orphaned.values())!r}; at most {max_share:.0%} are deleted: see that the list is whole, or raise "
                "--max-delete-share"
            )


def compare(
    planned: Sequence[PlannedClip],
    stored: Iterable[tuple[str, str]],
    *,
    dead_keys: Collection[str],
    archive: ArchiveRows | None = None,
) -> Comparison:
    """`stored` is (clip_key, clip_id) of every row; rows of other archives than the planned one are passed over."""
    archive = archive or ArchiveRows()
    id_by_key, duplicate = _own_rows(stored, archive)
    planned_by_id = {planned_clip.clip.clip_id: planned_clip for planned_clip in planned}
    present, missing, dead, unreadable = [], [], [], []
    for planned_clip in planned:
        if planned_clip.problem:
            unreadable.append(planned_clip)
        elif planned_clip.clip_key in id_by_key:
            present.append(planned_clip)
        elif planned_clip.clip_key in dead_keys:
            dead.append(planned_clip)
        else:
            missing.append(planned_clip)
    stale: defaultdict[str, list[str]] = defaultdict(list)
    orphaned: dict[str, str] = {}
    for key, clip_id in id_by_key.items():
        wanted = planned_by_id.get(clip_id)
        if wanted is None:
            orphaned[key] = clip_id
        elif key != wanted.clip_key and not wanted.problem:
            stale[clip_id].append(key)
    return Comparison(
        present=tuple(present),
        missing=tuple(missing),
        dead=tuple(dead),
        unreadable=tuple(unreadable),
        stale={clip_id: tuple(sorted(keys)) for clip_id, keys in stale.items()},
        orphaned=dict(sorted(orphaned.items())),
        duplicate=dict(sorted(duplicate.items())),
        num_rows=len(id_by_key),
    )


def _own_rows(
    stored: Iterable[tuple[str, str]], archive: ArchiveRows
) -> tuple[dict[str, str], dict[str, str]]:
    """Key -> clip id of the rows of the archive, and of those of them whose key more than one row has."""
    id_by_key: dict[str, str] = {}
    duplicate: dict[str, str] = {}
    for key, clip_id in stored:
        if archive.owns(clip_id):
            if key in id_by_key:
                duplicate[key] = clip_id
            id_by_key[key] = clip_id
    return id_by_key, duplicate
