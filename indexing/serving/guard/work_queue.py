"""Queues of the service: clients take turns, lines are bounded, and what nobody waits for any more is dropped or stopped."""

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cachetools import TTLCache

from indexing.serving.guard.problems import ProblemError

T = TypeVar("T")
_MAX_FAILURES = 1000


class FairQueue(Generic[T]):
    """First in, first out for each client; clients take turns. For one event loop."""

    def __init__(self, max_items: int, max_per_client: int) -> None:
        self._max_items, self._max_per_client = max_items, max_per_client
        self._lines: OrderedDict[str, deque[T]] = OrderedDict()
        self._num_items = 0
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return self._num_items

    def put(self, client: str, item: T) -> None:
        """Add an item; ProblemError 503 where the line of all or of this client is full."""
        line = self._lines.get(client, deque())
        if self._num_items >= self._max_items or len(line) >= self._max_per_client:
            raise ProblemError(503, "too many requests are waiting; try again", {"retry-after": "1"})  # fmt: skip
        line.append(item)
        self._lines[client] = line
        self._num_items += 1
        self._arrived.set()

    def pop(self) -> T:
        """The first item of the client whose turn it is; KeyError where none waits."""
        client, line = self._lines.popitem(last=False)
        item = line.popleft()
        if line:
            self._lines[client] = line
        self._num_items -= 1
        return item

    def discard(self, client: str, item: T) -> None:
        """Remove an item that may be waiting."""
        line = self._lines.get(client, deque())
        for position, other in enumerate(line):
            if other is item:
                del line[position]
                self._num_items -= 1
                break
        if not line:
            self._lines.pop(client, None)

    async def get(self) -> T:
        """As `pop`, once an item is there; for one consumer at a time."""
        while not self._num_items:
            self._arrived.clear()
            await self._arrived.wait()
        return self.pop()


class StopSignal:
    """Tells running work, in any thread, that its result is not wanted any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_set = False
        self._call: Callable[[], object] | None = None

    def is_set(self) -> bool:
        """Whether the work should end."""
        return self._is_set

    def set(self) -> None:
        """End the work: calls what `calling` was given, if that is running."""
        with self._lock:
            self._is_set = True
            if self._call is not None:
                self._call()

    @contextmanager
    def calling(self, call: Callable[[], object]) -> Iterator[None]:
        """While the block runs, `set` makes this call."""
        with self._lock:
            self._call = call
            if self._is_set:
                call()
        try:
            yield
        finally:
            with self._lock:
                self._call = None


@dataclass(kw_only=True, eq=False)
class _Work(Generic[T]):
    key: Hashable
    client: str
    call: Callable[[StopSignal], T]
    done: "asyncio.Future[T]"
    stop: StopSignal = field(default_factory=StopSignal)
    num_waiting: int = 0
    is_late: bool = False


class WorkQueue(Generic[T]):
    """Slow calls in a few threads. Requests for the same thing share one call, and a call that failed is not repeated for a while.

    A call that is waiting when its last client leaves is dropped; one that runs, or that runs longer than `deadline_s`, is stopped.
    """

    def __init__(
        self,
        name: str,
        *,
        deadline_s: float,
        max_waiting: int = 32,
        max_per_client: int = 8,
        num_threads: int = 1,
        remember_failure_s: float = 60.0,
    ) -> None:
        self._name, self._deadline_s, self._num_threads = name, deadline_s, num_threads
        self._threads = ThreadPoolExecutor(num_threads, name)
        self._line: FairQueue[_Work[T]] = FairQueue(max_waiting, max_per_client)
        self._works: dict[Hashable, _Work[T]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._failures: TTLCache[Hashable, ProblemError] = TTLCache(
            _MAX_FAILURES, remember_failure_s
        )

    async def run(self, key: Hashable, call: Callable[[StopSignal], T], *, client: str) -> T:
        """The result of `call`, which gets a signal by which it may be stopped; ProblemError 503 where the line is full."""
        failure = self._failures.get(key)
        if failure is not None:
            raise ProblemError(failure.status, failure.detail, failure.headers)
        work = self._works.get(key)
        if work is None or work.stop.is_set():
            done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            work = _Work(key=key, client=client, call=call, done=done)
            self._line.put(client, work)
            self._works[key] = work
            self._start_next()
        work.num_waiting += 1
        try:
            return await asyncio.shield(work.done)
        finally:
            work.num_waiting -= 1
            if work.num_waiting == 0 and not work.done.done():
                work.stop.set()
                self._line.discard(work.client, work)
                self._forget(work)

    def close(self) -> None:
        """Stop what runs and end the threads."""
        for work in list(self._works.values()):
            work.stop.set()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _start_next(self) -> None:
        while len(self._running) < self._num_threads and len(self._line):
            task = asyncio.ensure_future(self._run(self._line.pop()))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._start_next()

    async def _run(self, work: _Work[T]) -> None:
        loop = asyncio.get_running_loop()

        def end() -> None:
            work.is_late = True
            work.stop.set()

        timer = loop.call_later(self._deadline_s, end)
        error: BaseException | None = None
        try:
            result = await loop.run_in_executor(self._threads, work.call, work.stop)
            if not work.done.done():
                work.done.set_result(result)
        except ProblemError as problem:
            error = problem
        except Exception as other:  # noqa: BLE001 - is raised in the requests that wait for it
            error = other
        finally:
            timer.cancel()
            self._forget(work)
        if error is None:
            return
        if work.is_late:
            error = ProblemError(504, f"{self._name} took more than {self._deadline_s:g} s")
        if isinstance(error, ProblemError) and (work.is_late or not work.stop.is_set()):
            self._failures[work.key] = error
        if work.num_waiting and not work.done.done():
            work.done.set_exception(error)

    def _forget(self, work: _Work[T]) -> None:
        if self._works.get(work.key) is work:
            del self._works[work.key]
