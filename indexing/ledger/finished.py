"""What a run saw that left nothing to do: a later run that sees the same has nothing to do either, and need not plan."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from encoders.files import from_dict, parse_json
from indexing.ledger.ledger import Ledger


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """The clips of an archive by what became of them."""

    clips: int
    present: int
    missing: int
    stale: int
    orphaned: int
    """Rows of clips that the archive does not have any more."""
    dead_by_reason: Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What decides what a run has to do, but for the rows themselves."""

    fingerprint: str
    """Of the source of the clips; "" = not known, and the same as no other."""
    encoder_id: str
    milvus_uri: str
    """Absolute, without user and password."""
    collection: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """The end of a run after which nothing is missing, stale or unreadable."""

    seen: Seen
    archive: str
    mark: str
    """Of the archive in the collection when the run began: whoever writes its rows later sets another."""
    rows: int
    """Of the archive in the collection."""
    counts: Counts


def write_finished(ledger: Ledger, finished: Finished) -> None:
    """Until the ledger changes."""
    ledger.finish(json.dumps(asdict(finished)))


def read_finished(ledger: Ledger) -> Finished | None:
    """The end of the last run, where it left nothing to do and nothing changed since."""
    text = ledger.finished()
    if not text or ledger.has_unchecked():
        return None
    try:
        return from_dict(Finished, parse_json(text), "finished")
    except ValueError:  # of another version
        return None
