"""Leases: while one process of any node holds the lease of a collection, an archive in it or an alias, no second one gets it.

A lease is an empty collection of its own, named after what it protects and after its holder, with a heartbeat among its properties.
Creating, listing and describing collections goes through one coordinator, so that all clients see it in one order. Each contender
first creates its lease and then looks for others: of two that come at once, at least one sees the other. A contender that sees
none holds the lease; one that sees a holder gives up, and among contenders the one whose name sorts first stays. No clocks are
compared: a holder is dead when its process is, as seen from its own machine, or when its heartbeat stands still.

Only one process can have a Milvus Lite folder open, so that its leases are kept in memory and exclude its threads.
"""

import hashlib
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from indexing.store.client import call_milvus, connect
from indexing.store.endpoint import serves_lite

logger = logging.getLogger(__name__)
_PREFIX = "tfcovr_lease_"
_BEAT, _HOLDS, _PROCESS = "tfcovr.beat", "tfcovr.holds", "tfcovr.process"
_BEAT_S = 3.0
_SILENT_S = 4 * _BEAT_S
"""A heartbeat that stands still for so long is that of a dead process."""
_POLL_S = 0.3
_TIMEOUT_S = 20.0
_NOT_FOUND = 100
"""Milvus's error code for a collection that does not exist."""
_leases_of_folders: set[tuple[str, str]] = set()
"""(address, lease name) of the Milvus Lite folders that this process serves."""
_folder_released = threading.Condition()


class LeaseBusyError(OSError):
    """Another process holds the lease."""


class LeaseLostError(OSError):
    """Another process took the lease, because this one did not answer for a while."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Protected:
    """What a lease protects: a whole, or one part of it. Parts exclude themselves and the whole, the whole excludes all parts."""

    whole: str
    """Such as the name of a collection."""
    part: str | None = None
    """Such as an archive in it; None = the whole."""
    busy: str
    """What an error says of it, such as "collection 'clips' is being written"."""

    def lease_name(self, holder: str) -> str:
        part = "all" if self.part is None else _digest(self.part)
        return f"{_PREFIX}{_digest(self.whole)}_{part}_{holder}"

    def excludes(self, lease: str) -> bool:
        """Whether a lease of this name may not be held at the same time."""
        matched = re.fullmatch(rf"{_PREFIX}([0-9a-f]+)_([0-9a-z]+)_[0-9a-f]+", lease)
        if matched is None or matched[1] != _digest(self.whole):
            return False
        return self.part is None or matched[2] in ("all", _digest(self.part))


def is_lease(collection: str) -> bool:
    """Whether a collection of this name is a lease, and holds no rows."""
    return collection.startswith(_PREFIX)


class Lease:
    """A lease that this process has asked for; `hold_lease` gives it once it is held."""

    def __init__(
        self, client: MilvusClient | None, protected: Protected, beside: "Lease | None" = None
    ) -> None:
        self._client: Any = client  # its stubs mix with the async ones
        self._protected = protected
        self.name = protected.lease_name(uuid.uuid4().hex[:12])
        self.own_names = {self.name} | ({beside.name} if beside else set())
        self._num_beats = 0
        self._beaten_s = time.monotonic()
        self._is_lost = False
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def check(self) -> None:
        """LeaseLostError where another process may hold the lease by now; call it before what cannot be undone."""
        if self._client is None:
            return
        if time.monotonic() - self._beaten_s > _SILENT_S / 2:
            self._beat()
        if self._is_lost:
            raise LeaseLostError(
                f"{self._protected.busy} by another process, which took over while this one did not answer; "
                "run the same command again when it has finished"
            )

    def acquire(self, wait_s: float) -> None:
        """LeaseBusyError where another process holds it for longer than `wait_s`."""
        give_up = time.monotonic() + wait_s
        while (holder := self._try()) is not None:
            if time.monotonic() >= give_up:
                raise LeaseBusyError(
                    f"{self._protected.busy} by {holder}; wait until it has finished, or end it, and run the same command again"
                )
            time.sleep(_POLL_S)
        threading.Thread(target=self._keep, name="lease", daemon=True).start()

    def release(self) -> None:
        """Let others have it; a server that does not answer forgets it when the heartbeat stands still."""
        self._stop.set()
        with self._lock, suppress(MilvusException):
            self._drop()

    def _try(self) -> str | None:
        """None when the lease is held, else who holds it."""
        self._create()
        seen: dict[str, tuple[str, float]] = {}
        while rivals := self._living_rivals(seen):
            holders = {name: lease for name, lease in rivals.items() if lease[_HOLDS]}
            in_front = holders or {n: lease for n, lease in rivals.items() if n < self.name}
            # A heartbeat that was not yet seen to move may be that of a dead process.
            if moving := [lease["who"] for lease in in_front.values() if lease["is_moving"]]:
                call_milvus(self._drop)
                return str(moving[0])
            time.sleep(_POLL_S)
            self._beat()
        try:
            call_milvus(lambda: self._alter({_HOLDS: "1"}))
        except MilvusException as error:
            if error.code != _NOT_FOUND:
                raise
            return "another process, which took this one for dead"
        return None

    def _living_rivals(self, seen: dict[str, tuple[str, float]]) -> dict[str, dict[str, Any]]:
        """The leases that exclude this one; those of dead processes are dropped. `seen` is (heartbeat, since when) of each."""
        rivals = {}
        for name in call_milvus(lambda: self._client.list_collections(timeout=_TIMEOUT_S)):
            if name in self.own_names or not self._protected.excludes(name):
                continue
            lease = self._describe(name)
            if lease is None:
                continue
            beat, since_s = seen.setdefault(name, (lease[_BEAT], time.monotonic()))
            lease["is_moving"] = beat != lease[_BEAT]
            is_silent = not lease["is_moving"] and time.monotonic() - since_s > _SILENT_S
            if lease["is_gone"] or is_silent:
                logger.warning("the lease of %s is dropped: its process is gone", lease["who"])
                call_milvus(
                    lambda name=name: self._client.drop_collection(name, timeout=_TIMEOUT_S)
                )
                continue
            rivals[name] = lease
        return rivals

    def _describe(self, name: str) -> dict[str, Any] | None:
        """None for a lease that has just gone."""
        try:
            described = self._client.describe_collection(name, timeout=_TIMEOUT_S)
        except MilvusException:
            if call_milvus(lambda: self._client.has_collection(name, timeout=_TIMEOUT_S)):
                raise
            return None
        properties = dict(described.get("properties") or {})
        # Milvus Lite keeps properties only, and a server of 2.3 the description only.
        process = json.loads(properties.get(_PROCESS) or described["description"])
        is_local = process["machine"] == _this_machine()
        is_gone = is_local and not psutil.pid_exists(process["pid"])
        return {
            "who": f"process {process['pid']} on {process['host']}",
            "is_gone": is_gone,
            _BEAT: properties.get(_BEAT, ""),
            _HOLDS: properties.get(_HOLDS, ""),
        }

    def _create(self) -> None:
        self._is_lost = False
        process = json.dumps(
            {"pid": os.getpid(), "host": socket.gethostname(), "machine": _this_machine()}
        )
        schema = self._client.create_schema(
            auto_id=False, enable_dynamic_field=False, description=process
        )
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
        call_milvus(
            lambda: self._client.create_collection(
                self.name, schema=schema, properties={_PROCESS: process}, timeout=_TIMEOUT_S
            )
        )

    def _keep(self) -> None:
        while not self._stop.wait(_BEAT_S) and not self._is_lost:
            self._beat()

    def _beat(self) -> None:
        """A server that does not answer is told again next time; one that says that the lease is gone is believed."""
        with self._lock:
            if self._stop.is_set():
                return
            self._num_beats += 1
            try:
                self._alter({_BEAT: str(self._num_beats)})
            except MilvusException:
                with suppress(MilvusException):
                    self._is_lost = not self._client.has_collection(self.name, timeout=_TIMEOUT_S)

    def _alter(self, properties: dict[str, str]) -> None:
        self._client.alter_collection_properties(self.name, properties, timeout=_TIMEOUT_S)
        self._beaten_s = time.monotonic()

    def _drop(self) -> None:
        self._client.drop_collection(self.name, timeout=_TIMEOUT_S)


@contextmanager
def hold_lease(
    address: str, protected: Protected, *, wait_s: float = 0.0, beside: Lease | None = None
) -> Iterator[Lease]:
    """Hold a lease while the block runs; LeaseBusyError, with who holds it, where another process does.

    `beside` is a lease of this process that the new one would exclude.
    """
    if serves_lite(address):
        with _hold_in_memory(address, protected, wait_s=wait_s, beside=beside) as lease:
            yield lease
        return
    client = connect(address)
    lease = Lease(client, protected, beside)
    try:
        try:
            lease.acquire(wait_s)
            yield lease
        finally:
            lease.release()
    finally:
        client.close()


@contextmanager
def _hold_in_memory(
    address: str, protected: Protected, *, wait_s: float, beside: Lease | None
) -> Iterator[Lease]:
    lease = Lease(None, protected, beside)

    def is_free() -> bool:
        names = {name for place, name in _leases_of_folders if place == address}
        return not any(protected.excludes(name) for name in names - lease.own_names)

    with _folder_released:
        if not _folder_released.wait_for(is_free, wait_s):
            raise LeaseBusyError(
                f"{protected.busy} by another thread of this process; wait until it has finished and try again"
            )
        _leases_of_folders.add((address, lease.name))
    try:
        yield lease
    finally:
        with _folder_released:
            _leases_of_folders.discard((address, lease.name))
            _folder_released.notify_all()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _this_machine() -> str:
    """Where a process id means the same process: a boot of a machine, and a container of it."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot_id} {Path('/proc/self/ns/pid').readlink()}"
