"""Labelling an archive: stores clicks, refits heads on stored vectors in the background, says what to ask next and suggests labels.

N clips, L labels.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from indexing.archive_folder import relocate
from indexing.labelling.choice import Group, choose_groups, doubt
from indexing.labelling.clicks import Click, ClipState, Record
from indexing.labelling.heads import fit_heads
from indexing.labelling.journal import Journal
from indexing.labelling.pool import Pool
from indexing.search.client import SearchClient
from indexing.search.types import ClipPlace, clip_place_of_row
from indexing.store.client import MilvusBusyError
from indexing.store.schema import ROW_FIELDS

logger = logging.getLogger(__name__)

NUM_ASKED = 32
"""Clips to ask about that one refit chooses."""
_DEPTH = 4
NUM_GROUPS = 12
"""Groups of clips without a label that are shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Suggestion:
    """A label that a clip may have."""

    label: str
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """What one refit came to."""

    places: tuple[ClipPlace, ...]
    labels: tuple[str, ...]
    """Labels of the heads."""
    probabilities_NL: np.ndarray
    asked: tuple[Group, ...]
    """Small groups: ask about the first clip of each."""
    groups: tuple[Group, ...]
    """All clips without a label in a few groups, to be looked through."""
    num_clicks: int
    """Clicks that it knows."""
    num_labelled: int
    """Clips that the heads were fitted on."""
    seconds: float


class LabelDesk:
    """The labels of one archive. Thread-safe."""

    def __init__(self, client: SearchClient, folder: Path) -> None:
        self.client, self.journal = client, Journal(folder)
        self._refitting = threading.Lock()
        self._waiting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pool: Pool | None = None
        self._round: Round | None = None
        self._is_closed = False

    def close(self) -> None:
        """End the refit that runs, and let another process open the folder."""
        self._is_closed = True
        if self._thread is not None:
            self._thread.join()
        self.journal.close()

    def store(self, clicks: Sequence[Click]) -> None:
        """Store clicks durably, and refit in the background.

        ValueError for a click that cannot be, or on a clip that the collection does not have; JournalError where they cannot be stored.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        rows = self.client.collection.rows_of_clips(
            sorted({click.clip_id for click in clicks}), fields=ROW_FIELDS
        )
        places = {row["clip_id"]: clip_place_of_row(row) for row in rows}
        records = []
        for click in clicks:
            place = places.get(click.clip_id)
            if place is None:
                raise ValueError(f"clip {click.clip_id!r} is not in the collection")
            records.append(
                Record(
                    click=click,
                    video_uri=place.video_uri,
                    start_s=place.start_s,
                    end_s=place.end_s,
                    received_at=now,
                )
            )
        self.journal.append(records)
        self.refit_beside()

    def round(self) -> Round:
        """What the last refit came to; the first one is waited for."""
        if self._round is None:
            self.refit()
        assert self._round is not None
        return self._round

    @property
    def last_round(self) -> Round | None:
        """None before the first refit."""
        return self._round

    def refit(self) -> Round:
        """Fit the heads on all labels of now, and choose what to ask."""
        with self._refitting:
            started = time.monotonic()
            num_clicks = len(self.journal.clicks)
            states = self.journal.clicks.states()
            pool = self._pool = self._pool or Pool(self.client)
            pool.include([state.clip_id for state in states])
            labels_N = [place.label for place in pool.places]
            is_open_N = np.array([label is None for label in labels_N], bool)
            for state in states:
                number = pool.number(state.clip_id)
                if number is not None and _is_of(state, pool.places[number]):
                    stored = pool.places[number].label
                    labels_N[number] = stored if state.label is None else state.label or None
                    is_open_N[number] = labels_N[number] is None and not state.is_skipped
            is_labelled_N = np.array([label is not None for label in labels_N], bool)
            scaled_ND = pool.scaled()
            heads = fit_heads(
                scaled_ND[is_labelled_N], [label for label in labels_N if label is not None]
            )
            probabilities_NL = (
                np.zeros((len(pool), 0)) if heads is None else heads.probabilities(scaled_ND)
            )
            doubt_N = doubt(probabilities_NL, len(pool))
            asked = choose_groups(
                scaled_ND,
                doubt_N,
                is_labelled_N=is_labelled_N,
                is_open_N=is_open_N,
                count=NUM_ASKED,
            )
            groups = choose_groups(
                scaled_ND[is_open_N],
                doubt_N[is_open_N],
                is_labelled_N=np.zeros(int(is_open_N.sum()), bool),
                is_open_N=np.ones(int(is_open_N.sum()), bool),
                count=NUM_GROUPS,
            )
            numbers = np.flatnonzero(is_open_N)
            self._round = Round(
                places=tuple(pool.places),
                labels=() if heads is None else heads.labels,
                probabilities_NL=probabilities_NL,
                asked=tuple(asked),
                groups=tuple(replace(g, open_clips=numbers[g.open_clips]) for g in groups),
                num_clicks=num_clicks,
                num_labelled=int(is_labelled_N.sum()),
                seconds=time.monotonic() - started,
            )
            return self._round

    def next_clips(self, limit: int) -> list[ClipPlace]:
        """The most useful clips to ask about, without those that were answered since the last refit."""
        found = self.round()
        # The first of each group, then the second ones.
        groups = [group.open_clips for group in found.asked]
        first = [of[rank] for rank in range(_DEPTH) for of in groups if rank < len(of)]
        places = (found.places[number] for number in first)
        return [self.current(place) for place in places if not self._is_asked(place)][:limit]

    def groups(self, limit: int, num_shown: int) -> list[tuple[int, list[ClipPlace]]]:
        """Groups of clips without a label: how many, and the most typical ones."""
        found = self.round()
        shown = []
        for group in found.groups[:limit]:
            places = [found.places[number] for number in group.open_clips]
            open_places = [self.current(place) for place in places if not self._is_asked(place)]
            if open_places:
                shown.append((len(open_places), open_places[:num_shown]))
        return shown

    def suggestions(self, clip_id: str, limit: int) -> list[Suggestion]:
        """Labels of a clip by the heads, the likeliest first, without those that it was said not to have; none for a clip outside of the
        pool."""
        found, number = self.round(), self._pool.number(clip_id) if self._pool else None
        if number is None or number >= len(found.probabilities_NL):
            return []
        state = self._state(found.places[number])
        ruled_out = state.not_labels if state else frozenset()
        likely = zip(found.labels, found.probabilities_NL[number].tolist(), strict=True)
        pairs = [pair for pair in likely if pair[0] not in ruled_out]
        pairs.sort(key=lambda pair: -pair[1])
        return [Suggestion(label=label, probability=value) for label, value in pairs[:limit]]

    def labels(self) -> dict[str, int]:
        """Every label of the archive and of clicks, and how many clips clicks have given it."""
        counts = Counter(state.label for state in self.journal.clicks.states() if state.label)
        return {n: counts[n] for n in sorted({*self.client.snapshot.facts.labels, *counts})}

    def current(self, place: ClipPlace) -> ClipPlace:
        """A clip as clicks have left it: its label, with the attributes that the archive knows of it, and its span."""
        state = self._state(place)
        if state is None:
            return place
        if state.is_moved:
            place = replace(place, start_s=state.start_s, end_s=state.end_s)
        if state.label is None or state.label == (place.label or ""):
            return place
        attributes = self.client.snapshot.facts.label_attributes.get(state.label, {})
        return replace(place, label=state.label or None, attributes=attributes)

    def labelled(self) -> Iterator[ClipPlace]:
        """Every clip of the collection that has a label by its row or by clicks, where its video is now."""
        moved = self.client.options.moved_videos
        for row in self.client.collection.rows(ROW_FIELDS):
            place = self.current(clip_place_of_row(row))
            if place.label:
                yield replace(place, video_uri=relocate(place.video_uri, moved))

    def _state(self, place: ClipPlace) -> ClipState | None:
        """What clicks say of a clip as its row has it."""
        state = self.journal.clicks.state(place.clip_id)
        return state if state is not None and _is_of(state, place) else None

    def _is_asked(self, place: ClipPlace) -> bool:
        state = self._state(place)
        return state is not None and state.is_asked

    def refit_beside(self) -> None:
        """Refit in a thread until it knows every click; does nothing where one runs."""
        with self._waiting:
            if self._is_closed or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = threading.Thread(target=self._refit_all, name="refit", daemon=True)
            self._thread.start()

    def _refit_all(self) -> None:
        try:
            while not self._is_closed:
                found = self.refit()
                with self._waiting:  # a click after this look starts another thread
                    if found.num_clicks == len(self.journal.clicks):
                        self._thread = None
                        return
        except (MilvusBusyError, ConnectionError) as error:
            logger.warning("the heads were not refitted: %s", error)


def _is_of(state: ClipState, place: ClipPlace) -> bool:
    return state.is_of(place.video_uri, place.start_s, place.end_s)
