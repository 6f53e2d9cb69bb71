"""Watches a place: which files are due, and when; what is whole goes into the collection, what is gone goes out.

A file is due when it has not changed for `settle_s`, nobody has it open for writing, and its container is complete. One that stays
incomplete for `patience_s` is taken as it is, and becomes a dead letter. What is due is in no file: after a kill, the difference
between the place and the collection says it again.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from threading import Event

from indexing.ledger.planned_clip import PlannedClip
from indexing.sources.content import FileStamp
from indexing.sources.watching.config import WatchRules
from indexing.sources.watching.follower import Follower, Update
from indexing.sources.watching.places import LIST_AGAIN, Place
from indexing.sources.watching.whole_files import WRITTEN
from indexing.store.lease import LeaseLostError

logger = logging.getLogger(__name__)
_MOST_AT_ONCE = 64
"""Files of one update: those after them wait no longer than these take."""
_LONGEST_WAIT_S = 30.0
_AGAIN_S = 30.0
"""After an error of the place or of Milvus."""
_LONGEST_AGAIN_S = 300.0
"""Between two attempts at a file that cannot be read."""
_FEW = 10
"""So many files may be deleted, whatever their share, where others stay."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A file that is looked at when it is due."""

    stamp: FileStamp | None
    """None = there is no such file."""
    since_s: float
    """When it was first seen like this."""
    due_s: float
    reason: str = ""
    num_tries: int = 0
    """So often it could not be read, or changed while it was read."""


class Watch:
    """The files that wait, and those that are done."""

    def __init__(
        self,
        place: Place,
        follower: Follower,
        rules: WatchRules,
        *,
        say: Callable[[str], object] = logger.info,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place, self._follower, self._rules = place, follower, rules
        self._say, self._now = say, now
        self._done: dict[str, FileStamp] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._held = 0
        self._told_waiting: Counter[str] = Counter()

    def follow(self, is_stopped: Event) -> None:
        """Until it is stopped. An error of the place or of Milvus ends it at the start only; later it is said, and tried again."""
        changes = self._place.changes()
        noted = next(changes)  # from here on, what changes is told
        self.start()
        resume_s = self._now()
        while not is_stopped.is_set():
            if self._now() >= resume_s:
                try:
                    self.note(noted)
                    noted = set()
                    while self._tell(self.step()):
                        pass
                except LeaseLostError:
                    raise
                except OSError as error:
                    self._say(f"{error}; trying again in {_AGAIN_S:.0f} s")
                    noted, resume_s = {LIST_AGAIN}, self._now() + _AGAIN_S
            noted = noted | next(changes)

    def _tell(self, update: Update) -> bool:
        """Whether there was anything to do."""
        counts = (
            (update.written, "indexed"),
            (update.moved, "renamed"),
            (update.deleted, "old rows deleted"),
            (len(update.dead), "dead"),
            (len(update.again), "could not be read, or changed meanwhile"),
        )
        done = ", ".join(f"{number} {what}" for number, what in counts if number)
        waiting = self.waiting()
        if waiting != self._told_waiting or done:
            self._told_waiting = waiting
            waits = ", ".join(f"{number} {reason}" for reason, number in sorted(waiting.items()))
            parts = [done, *update.dead, f"waiting: {waits}" if waits else ""]
            self._say("; ".join(filter(None, parts)) or "nothing waits any more")
        return update != Update()

    def start(self) -> None:
        """Find what differs between the place and the collection."""
        stamps = self._place.list()
        archive = self._place.archive(stamps)
        by_id = {self._place.clip_id(name): name for name in stamps}
        changed, gone = self._follower.differences(
            archive, {clip_id: stamps[name] for clip_id, name in by_id.items()}
        )
        self._done = {
            name: stamps[name] for clip_id, name in by_id.items() if clip_id not in changed
        }
        self.note(name for clip_id, name in by_id.items() if clip_id in changed)
        if self._may_be_deleted(gone, len(self._done) + len(changed) + len(gone)):
            for clip_id in gone:
                self._wait(clip_id, None)

    def note(self, names: Iterable[str]) -> None:
        """Look at these files: something may have changed."""
        for name in names:
            if name == LIST_AGAIN:
                self._list()
            elif name.endswith("/"):
                self.note([done for done in self._done if done.startswith(name)])
            else:
                self._note(name)

    def step(self) -> Update:
        """Bring in and take out what is due."""
        gone, ready = self._due()
        if not gone and not ready:
            return Update()
        archive = self._place.archive(ready)
        names = dict(zip((clip.video_uri for clip in archive.clips), ready, strict=True))

        def is_same(planned: PlannedClip) -> bool:
            name = names[planned.clip.video_uri]
            return planned.stamp == ready[name] == self._place.look(name)

        gone_ids = [self._place.clip_id(name) for name in gone]
        update = self._follower.update(archive, gone_ids, is_same=is_same)
        for name in gone:
            del self._waiting[name]
            self._done.pop(name, None)
        for clip, (name, stamp) in zip(archive.clips, ready.items(), strict=True):
            if clip.clip_id in update.again:
                self._wait(name, self._place.look(name), self._waiting[name].num_tries + 1)
            else:
                self._done[name] = stamp
                del self._waiting[name]
        return update

    def waiting(self) -> Counter[str]:
        """Number of files that wait, by why."""
        return Counter(file.reason for file in self._waiting.values() if file.reason)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting

    def _list(self) -> None:
        stamps = self._place.list()
        self.note(name for name, stamp in stamps.items() if stamp != self._done.get(name))
        gone = [name for name in self._done if name not in stamps]
        if self._may_be_deleted(gone, len(self._done)):
            self.note(gone)

    def _may_be_deleted(self, gone: Collection[str], num_files: int) -> bool:
        is_share = len(gone) > self._rules.max_delete_share * num_files
        is_share = is_share and (len(gone) > _FEW or len(gone) == num_files)
        if is_share and len(gone) != self._held:
            self._say(
                f"{len(gone)} of {num_files} files are not there any more; their rows are kept, until they are back or the watch is "
                "started with a higher --rules.max-delete-share"
            )
        self._held = len(gone) if is_share else 0
        return not is_share

    def _note(self, name: str) -> None:
        stamp, waiting = self._place.look(name), self._waiting.get(name)
        if waiting is not None and waiting.stamp == stamp:
            return
        if waiting is None and stamp == self._done.get(name):
            return
        self._wait(name, stamp)

    def _wait(self, name: str, stamp: FileStamp | None, num_tries: int = 0) -> None:
        now, wait_s = self._now(), self._rules.settle_s * 2 ** min(num_tries, 16)
        due_s = now + min(wait_s, max(_LONGEST_AGAIN_S, self._rules.settle_s))
        self._waiting[name] = _Waiting(stamp, now, due_s, num_tries=num_tries)

    def _due(self) -> tuple[list[str], dict[str, FileStamp]]:
        """Files that are gone, and those that are whole, with their stamps."""
        now = self._now()
        gone: list[str] = []
        ready: dict[str, FileStamp] = {}
        for name, file in list(self._waiting.items()):
            if file.due_s > now:
                continue
            stamp = self._place.look(name)
            if stamp != file.stamp:
                self._wait(name, stamp)
            elif stamp is None:
                gone.append(name)
            elif len(ready) < _MOST_AT_ONCE and self._is_ready(name, file):
                ready[name] = stamp
        return gone, ready

    def _is_ready(self, name: str, file: _Waiting) -> bool:
        reason, waited_s = self._place.reason_to_wait(name), self._now() - file.since_s
        if not reason or (reason != WRITTEN and waited_s >= self._rules.patience_s):
            return True
        # The longer it has been like this, the less often it is looked at.
        wait_s = min(max(self._rules.settle_s, waited_s / 4), _LONGEST_WAIT_S)
        self._waiting[name] = replace(file, due_s=self._now() + wait_s, reason=reason)
        return False
