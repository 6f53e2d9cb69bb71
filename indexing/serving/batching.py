"""Dynamic batching of concurrent queries; a sample of them is checked against exact search.

A query waits only while the encoder works on earlier ones. The sampler repeats a fraction of the live queries as exact search,
outside of any request.
"""

import asyncio
import dataclasses
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from indexing.search.client import SearchClient
from indexing.search.collection_snapshot import StillCountingError
from indexing.search.types import ComposedQuery, SearchResult, UploadedVideo
from indexing.serving.guard.problems import ProblemError
from indexing.serving.guard.work_queue import FairQueue, StopSignal, WorkQueue
from indexing.serving.metrics import Quality
from indexing.store.client import MilvusBusyError


@dataclass(frozen=True, kw_only=True, slots=True)
class BatcherConfig:
    """Batching, admission and sampling of queries."""

    max_batch: int = 16
    """Maximum number of queries in a batch."""
    batch_s: float = 0.6
    """Time that a batch should take; it holds fewer queries where recent ones were slow."""
    max_batches: int = 2
    """Maximum number of batches in flight: one is encoded while another waits for Milvus."""
    max_waiting: int = 256
    """Maximum number of queued queries; one more is refused at once."""
    upload_deadline_s: float = 30.0
    """Maximum time in which the query clip of an upload is decoded and searched."""
    backoff_s: float = 1.0
    """Seconds for which queries are refused at once after Milvus did not answer; then the next one tries again."""
    sample_share: float = 0.02
    """Fraction of the unfiltered queries that are also run as exact search, to estimate recall; fewer where that would take more than
    a fiftieth of the time, as an exact search of a large collection does."""

    def __post_init__(self) -> None:
        for name in ("max_batch", "max_batches", "max_waiting"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.backoff_s < 0:
            raise ValueError(f"backoff_s is {self.backoff_s}; it must be at least 0")
        if self.batch_s <= 0:
            raise ValueError(f"batch_s is {self.batch_s}; it must be above 0")
        if self.upload_deadline_s <= 0:
            raise ValueError(f"upload_deadline_s is {self.upload_deadline_s}; it must be above 0")
        if not 0 <= self.sample_share <= 1:
            raise ValueError(f"sample_share is {self.sample_share}; it must lie in [0, 1]")


_SMOOTHING = 0.3
_SAMPLING_SHARE = 1 / 50
"""Of the time, at most, that sampled queries take: an exact search of 200,000 clips takes Milvus 0.27 s on two idle cores."""


class _CallOnce:
    """A call that happens at most once, from any thread: `list.pop` is atomic, so only one caller gets it."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._calls = [call]

    def __call__(self) -> None:
        with suppress(IndexError):
            self._calls.pop()()


def _nothing() -> None:
    pass


class QueryBatcher:
    """A search client behind a queue: it batches waiting queries and overlaps encoding with the search in Milvus."""

    def __init__(self, client: SearchClient, config: BatcherConfig) -> None:
        self.client, self.config, self.quality = client, config, Quality()
        self._queue: FairQueue[tuple[ComposedQuery, asyncio.Future[SearchResult]]] = FairQueue(
            config.max_waiting, config.max_waiting
        )
        self._threads = ThreadPoolExecutor(config.max_batches, "search")
        self._uploads: WorkQueue[SearchResult] = WorkQueue(
            "the query clip", deadline_s=config.upload_deadline_s
        )
        self._sampler = ThreadPoolExecutor(1, "sampler")
        self._workers: list[asyncio.Task[None]] = []
        # Held while a batch is collected and encoded, but not while Milvus is searched; see `_work`.
        self._encoder = asyncio.Lock()
        self._is_sampling = False
        self._next_sample_s = 0.0
        self._query_s = 0.0
        """Recent time of a query in its batch, smoothed."""
        self._backoff_until_s = 0.0
        self._random = random.Random(0)

    def warm_up(self) -> None:
        """Read the facts of the collection and open the text encoder before the first query."""
        _ = self.client.snapshot.facts, self.client.snapshot.is_exact
        self.client.snapshot.count_beside()
        if self.client.query_encoder.can_compose:
            self.client.search(edit="ready", limit=1)
        _ = self.client.snapshot.reader

    async def search(self, query: ComposedQuery, *, client: str = "") -> SearchResult:
        """Answer a query together with those that wait at the same time; ProblemError 503 where the queue is full.

        Clients, named by their addresses, take turns.
        """
        start_s = time.perf_counter()
        try:
            if isinstance(
                query.clip, bytes | UploadedVideo
            ):  # decoding must not hold up the batches
                upload = partial(self._search_upload, query)
                result = await self._uploads.run(object(), upload, client=client)
            else:
                result = await self._enqueue(query, client)
        except ValueError as error:
            self.quality.failed(422)
            raise ProblemError(422, str(error)) from error
        except (MilvusBusyError, ConnectionError) as error:
            self.quality.failed(503)
            raise ProblemError(503, "Milvus does not answer", {"retry-after": "2"}) from error
        except StillCountingError as error:
            self.quality.failed(503)
            raise ProblemError(503, str(error), {"retry-after": "10"}) from error
        except ProblemError as problem:
            self.quality.failed(problem.status)
            raise
        self.quality.answered(time.perf_counter() - start_s, dict(result.timings_ms))
        self._maybe_sample(query, result)
        return result

    def _search_upload(self, query: ComposedQuery, stop: StopSignal) -> SearchResult:
        self.client.start_decoder()
        try:
            with stop.calling(self.client.interrupt_decoder):
                return self.client.search_many([query])[0]
        finally:
            if stop.is_set():  # the process may have been ended after its last reply
                self.client.close_decoder()

    async def _enqueue(self, query: ComposedQuery, client: str) -> SearchResult:
        loop = asyncio.get_running_loop()
        self._workers = [worker for worker in self._workers if not worker.done()]
        while len(self._workers) < self.config.max_batches:
            self._workers.append(loop.create_task(self._work()))
        answer: asyncio.Future[SearchResult] = loop.create_future()
        item = (query, answer)
        self._queue.put(client, item)
        try:
            return await answer
        finally:
            self._queue.discard(client, item)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            # The lock makes queries wait in the queue while the encoder is busy, so that the next batch is as large as possible. It is
            # taken here, in the event loop, but the batch runs in a thread, and that thread releases it as soon as the batch is
            # encoded (`on_encoded`): the next batch is then encoded while this one waits for Milvus. An asyncio.Lock may only be
            # touched in its loop, hence call_soon_threadsafe; a batch that fails before it is encoded releases the lock in
            # `_answer`, hence _CallOnce.
            await self._encoder.acquire()
            batch = [await self._queue.get()]
            await asyncio.sleep(0)  # lets requests that were already read join the batch
            while len(self._queue) and len(batch) < self._batch_size():
                batch.append(self._queue.pop())
            free = _CallOnce(lambda: loop.call_soon_threadsafe(self._encoder.release))
            queries = [query for query, _ in batch]
            start_s = time.perf_counter()
            answers = await loop.run_in_executor(self._threads, self._answer, queries, free)
            each_s = (time.perf_counter() - start_s) / len(batch)
            self._query_s += _SMOOTHING * (each_s - self._query_s)
            for (_query, future), answer in zip(batch, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, BaseException):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

    def _batch_size(self) -> int:
        """As many queries as take `batch_s` together, so that expensive ones of one client hold up another for so long at most."""
        return min(
            max(int(self.config.batch_s / max(self._query_s, 1e-6)), 1), self.config.max_batch
        )

    def _answer(
        self, queries: list[ComposedQuery], free_encoder: Callable[[], object]
    ) -> list[SearchResult | BaseException]:
        """Answer a batch; where that fails, each query by itself, so that an invalid query does not fail the others."""
        try:
            return self._try_together(queries, free_encoder)
        finally:
            free_encoder()

    def _try_together(
        self, queries: list[ComposedQuery], free_encoder: Callable[[], object]
    ) -> list[SearchResult | BaseException]:
        if time.monotonic() < self._backoff_until_s:
            return [MilvusBusyError("Milvus did not answer just now") for _ in queries]
        try:
            return list(self.client.search_many(queries, on_encoded=free_encoder))
        except (MilvusBusyError, ConnectionError) as error:
            self._backoff_until_s = time.monotonic() + self.config.backoff_s
            return [error for _ in queries]
        except Exception as error:  # noqa: BLE001 - is raised in the request of this query
            if len(queries) == 1:
                return [error]
        return [answer for query in queries for answer in self._try_together([query], _nothing)]

    def _maybe_sample(self, query: ComposedQuery, result: SearchResult) -> None:
        is_plain = not (query.filters or query.keep or query.exclude or query.group_by_video)
        is_plain = is_plain and query.group_above >= 1 and isinstance(query.clip, str)
        is_due = not self._is_sampling and time.monotonic() >= self._next_sample_s
        if not is_plain or not is_due or self._random.random() >= self.config.sample_share:
            return
        self._is_sampling = True
        self._sampler.submit(self._sample, query, result)

    def _sample(self, query: ComposedQuery, result: SearchResult) -> None:
        start_s = time.monotonic()
        try:
            exact = self.client.search_many([dataclasses.replace(query, exact=True)])[0]
            exact_ids = {hit.clip_id for hit in exact.hits}
            answered_ids = {hit.clip_id for hit in result.hits}
            if exact_ids:
                self.quality.sampled(len(exact_ids & answered_ids) / len(exact_ids))
        except (ValueError, OSError) as error:
            self.quality.failed(500)
            raise RuntimeError("a sampled query failed") from error
        finally:
            now_s = time.monotonic()
            self._next_sample_s = now_s + (now_s - start_s) / _SAMPLING_SHARE
            self._is_sampling = False

    def close(self) -> None:
        """Stop the threads and close the connection to Milvus."""
        for worker in self._workers:
            worker.cancel()
        self._uploads.close()
        for pool in (self._threads, self._sampler):
            pool.shutdown(wait=True, cancel_futures=True)
        self.client.close()
