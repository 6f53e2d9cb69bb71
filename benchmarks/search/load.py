"""What a service does under load: several clients, a rate that is held, one that is too high, and a Milvus that goes away.

Every query has an edit text of its own and a clip of its own, so that no cache answers.
"""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.search.service import Reply, Service
from benchmarks.search.texts import NUM_TEXTS, edit_text

NUM_SENDERS = 384
"""Threads that send at a rate: at least as many as queries can be under way."""
_RECOVERY_S = 60.0
_NUM_GOOD = 5


class Queries:
    """Queries without end, each text once as long as there are texts; threads may share it."""

    def __init__(self, clips: Sequence[Any]) -> None:
        self._clips, self._numbers = clips, itertools.count()

    def __next__(self) -> dict[str, Any]:
        number = next(self._numbers)
        clip = random.Random(number).choice(self._clips)
        return {"clip": clip, "edits": [edit_text(number % NUM_TEXTS)]}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What came of it."""

    replies: Sequence[Reply]
    seconds: float
    late_s: float = 0.0
    """The longest that a query was sent after its time: above a second, the senders were the limit."""
    memory_mib: Sequence[float] = field(default_factory=tuple)
    """Of the service, now and then."""

    def statuses(self) -> dict[int, int]:
        """How many of each; 0 = no answer."""
        return dict(sorted(Counter(reply.status for reply in self.replies).items()))

    def num_errors(self) -> int:
        """All but 200."""
        return sum(reply.status != 200 for reply in self.replies)

    def qps(self) -> float:
        """Answers a second."""
        return sum(reply.status == 200 for reply in self.replies) / self.seconds

    def quantile_ms(self, percent: float, *, statuses: Sequence[int] = (200,)) -> float:
        """Of what the clients waited."""
        waited_ms = [r.seconds * 1000 for r in self.replies if r.status in statuses]
        return float(np.percentile(waited_ms, percent)) if waited_ms else 0.0


def closed_loop(service: Service, queries: Queries, *, num_clients: int, seconds: float) -> Load:
    """Clients that each ask again as soon as they have their answer."""
    replies: list[Reply] = []
    start_s = time.monotonic()

    def run(_number: int) -> None:
        client = service.client()
        while time.monotonic() < start_s + seconds:
            replies.append(client.ask(next(queries)))
        client.close()

    with ThreadPoolExecutor(num_clients) as pool:
        list(pool.map(run, range(num_clients)))
    return Load(replies=replies, seconds=time.monotonic() - start_s)


def at_rate(
    service: Service,
    queries: Queries,
    *,
    per_s: float,
    seconds: float,
    during: Callable[[float], object] = lambda _elapsed_s: None,
) -> Load:
    """Queries at fixed times, whether or not earlier ones were answered; `during` is called once a second."""
    replies: list[Reply] = []
    late_s, memory = [0.0], [service.memory_mib()]
    turns, ended = itertools.count(), threading.Event()
    start_s = time.monotonic()

    def run(_number: int) -> None:
        client = service.client()
        while (due_s := start_s + next(turns) / per_s) < start_s + seconds:
            wait_s = due_s - time.monotonic()
            if ended.wait(max(wait_s, 0)):
                break
            late_s[0] = max(late_s[0], -wait_s)
            replies.append(client.ask(next(queries)))
        client.close()

    with ThreadPoolExecutor(NUM_SENDERS) as pool:
        running = [pool.submit(run, number) for number in range(NUM_SENDERS)]
        try:
            while not all(future.done() for future in running):
                time.sleep(1)
                elapsed_s = time.monotonic() - start_s
                during(elapsed_s)
                if int(elapsed_s) % 10 == 0:
                    memory.append(service.memory_mib())
        finally:
            ended.set()  # also where the run is interrupted
        for future in running:
            future.result()
    took_s = time.monotonic() - start_s
    return Load(replies=replies, seconds=took_s, late_s=late_s[0], memory_mib=memory)


def recovery_s(service: Service, queries: Queries, *, normal_ms: float) -> float | None:
    """Until a client got answers again, several in a row, none slower than twice as usual; None where that never came."""
    client = service.client()
    start_s = time.monotonic()
    num_good, first_good_s = 0, 0.0
    while (now_s := time.monotonic()) < start_s + _RECOVERY_S:
        reply = client.ask(next(queries))
        if reply.status == 200 and reply.seconds * 1000 <= 2 * normal_ms:
            first_good_s = now_s if num_good == 0 else first_good_s
            num_good += 1
            if num_good == _NUM_GOOD:
                client.close()
                return first_good_s - start_s
        else:
            num_good = 0
            time.sleep(0.05)
    client.close()
    return None


def without_milvus(
    service: Service,
    queries: Queries,
    *,
    kill: Callable[[], object],
    start: Callable[[], object],
    num_clients: int = 4,
    away_s: float = 8.0,
) -> dict[str, Any]:
    """Milvus crashes under load and is started again; the service is left alone."""
    replicas = sorted(process.pid for process in service.replicas())
    ended = threading.Event()
    replies: list[tuple[float, Reply]] = []

    def run(_number: int) -> None:
        client = service.client()
        while not ended.is_set():
            reply = client.ask(next(queries))
            replies.append((time.monotonic(), reply))
            if reply.status != 200:
                time.sleep(0.1)
        client.close()

    with ThreadPoolExecutor(num_clients) as pool:
        running = [pool.submit(run, number) for number in range(num_clients)]
        try:
            time.sleep(3)
            killed_s = time.monotonic()
            kill()
            time.sleep(away_s)
            start()
            started_s = time.monotonic()
            while time.monotonic() < started_s + _RECOVERY_S:
                time.sleep(0.5)
                if (
                    sum(r.status == 200 for when, r in replies if when > started_s)
                    >= 5 * num_clients
                ):
                    break
        finally:
            ended.set()
        for future in running:
            future.result()
    back = [when for when, reply in replies if when > started_s and reply.status == 200]
    away = Load(replies=[r for when, r in replies if killed_s < when < started_s], seconds=1)
    everything = Load(replies=[reply for _when, reply in replies], seconds=1)
    return {
        "milvus_killed_statuses": str(everything.statuses()),
        "milvus_killed_not_clean": sum(n for s, n in everything.statuses().items() if s not in (200, 503)),
        "milvus_killed_p99_ms": away.quantile_ms(99, statuses=(503,)),
        "milvus_killed_recovery_s": back[0] - started_s if back else None,
        "milvus_killed_same_replicas": replicas == sorted(process.pid for process in service.replicas()),
    }  # fmt: skip
