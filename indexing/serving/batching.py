"""Many requests at once, one encoder: queries that wait at the same time are answered together, and a share of them is checked.

A query waits only while the encoder is at work on earlier ones. The sampler asks a share of the live
queries again by exact search, outside of any request.
"""

import asyncio
import dataclasses
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from indexing.search.client import SearchClient
from indexing.search.types import ComposedQuery, SearchResult
from indexing.serving.metrics import Quality
from indexing.serving.problems import ProblemError
from indexing.store.client import MilvusBusyError


@dataclass(frozen=True, kw_only=True, slots=True)
class BatcherConfig:
    """How queries are put together."""

    max_batch: int = 16
    max_batches: int = 2
    """Under way at once: one is encoded while another waits for Milvus."""
    max_waiting: int = 256
    """Queries in line; one more is refused at once."""
    backoff_s: float = 1.0
    """After Milvus did not answer, queries are refused at once for so long; then the next one tries."""
    sample_share: float = 0.02
    """Of the queries without filters, also asked exactly."""

    def __post_init__(self) -> None:
        if min(self.max_batch, self.max_batches, self.max_waiting) < 1 or self.backoff_s < 0:
            raise ValueError(
                f"max_batch, max_batches and max_waiting must be at least 1, backoff_s 0; got {self}"
            )
        if not 0 <= self.sample_share <= 1:
            raise ValueError(f"sample_share is {self.sample_share}; it must lie in [0, 1]")


class _CallOnce:
    """A call that happens at most once, from whichever thread."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._calls = [call]

    def __call__(self) -> None:
        with suppress(IndexError):
            self._calls.pop()()


def _nothing() -> None:
    pass


class QueryBatcher:
    """The client behind a queue."""

    def __init__(self, client: SearchClient, config: BatcherConfig) -> None:
        self.client, self.config, self.quality = client, config, Quality()
        self._queue: asyncio.Queue[tuple[ComposedQuery, asyncio.Future[SearchResult]]] = (
            asyncio.Queue(config.max_waiting)
        )
        self._threads = ThreadPoolExecutor(config.max_batches, "search")
        self._uploads = ThreadPoolExecutor(1, "upload")
        self._sampler = ThreadPoolExecutor(1, "sampler")
        self._workers: list[asyncio.Task[None]] = []
        self._encoder = asyncio.Lock()
        self._is_sampling = False
        self._backoff_until_s = 0.0
        self._random = random.Random(0)

    def warm_up(self) -> None:
        """Read the archive's facts and open the text encoder, before the first query."""
        _ = self.client.snapshot.fields, self.client.snapshot.is_exact
        if self.client.query_encoder.can_compose:
            self.client.search(edit="ready", limit=1)
        _ = self.client.snapshot.reader
        if self.config.sample_share > 0 and not self.client.snapshot.is_exact:
            self.client.snapshot.read_gallery()

    async def search(self, query: ComposedQuery) -> SearchResult:
        """Answered with whatever queries wait at the same time; ProblemError 503 where too many do."""
        start_s = time.perf_counter()
        try:
            if isinstance(query.clip, bytes):  # decoding takes long: not in the line of the others
                loop = asyncio.get_running_loop()
                call = loop.run_in_executor(self._uploads, self.client.search_many, [query])
                result = (await call)[0]
            else:
                result = await self._enqueue(query)
        except ValueError as error:
            self.quality.failed(422)
            raise ProblemError(422, str(error)) from error
        except (MilvusBusyError, ConnectionError) as error:
            self.quality.failed(503)
            raise ProblemError(503, "Milvus does not answer", {"retry-after": "2"}) from error
        except ProblemError as problem:
            self.quality.failed(problem.status)
            raise
        self.quality.answered(time.perf_counter() - start_s, dict(result.timings_ms))
        self._maybe_sample(query, result)
        return result

    async def _enqueue(self, query: ComposedQuery) -> SearchResult:
        loop = asyncio.get_running_loop()
        self._workers = [worker for worker in self._workers if not worker.done()]
        while len(self._workers) < self.config.max_batches:
            self._workers.append(loop.create_task(self._work()))
        answer: asyncio.Future[SearchResult] = loop.create_future()
        try:
            self._queue.put_nowait((query, answer))
        except asyncio.QueueFull:
            raise ProblemError(
                503, "too many queries wait; try again", {"retry-after": "1"}
            ) from None
        return await answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._encoder.acquire()
            batch = [await self._queue.get()]
            await asyncio.sleep(0)  # those whose requests have been read already join
            while not self._queue.empty() and len(batch) < self.config.max_batch:
                batch.append(self._queue.get_nowait())
            batch = [one for one in batch if not one[1].done()]  # those who left
            free = _CallOnce(lambda: loop.call_soon_threadsafe(self._encoder.release))
            queries = [query for query, _ in batch]
            answers = await loop.run_in_executor(self._threads, self._answer, queries, free)
            for (_query, future), answer in zip(batch, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, BaseException):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

    def _answer(
        self, queries: list[ComposedQuery], free_encoder: Callable[[], object]
    ) -> list[SearchResult | BaseException]:
        """All together; where that fails, one by one, so that a wrong query costs no other."""
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
        except Exception as error:  # noqa: BLE001 - goes to the request that asked
            if len(queries) == 1:
                return [error]
        return [answer for query in queries for answer in self._try_together([query], _nothing)]

    def _maybe_sample(self, query: ComposedQuery, result: SearchResult) -> None:
        is_plain = not (query.filters or query.keep or query.exclude or query.group_by_video)
        is_plain = is_plain and query.group_above >= 1 and isinstance(query.clip, str)
        if not is_plain or self._is_sampling or self._random.random() >= self.config.sample_share:
            return
        self._is_sampling = True
        self._sampler.submit(self._sample, query, result)

    def _sample(self, query: ComposedQuery, result: SearchResult) -> None:
        try:
            exact = self.client.search_many([dataclasses.replace(query, exact=True)])[0]
            wanted = {hit.clip_id for hit in exact.hits}
            found = {hit.clip_id for hit in result.hits}
            if wanted:
                self.quality.sampled(len(wanted & found) / len(wanted))
        except (ValueError, OSError) as error:
            self.quality.failed(500)
            raise RuntimeError("a sampled query failed") from error
        finally:
            self._is_sampling = False

    def close(self) -> None:
        """Stop the threads and let Milvus go."""
        for worker in self._workers:
            worker.cancel()
        for pool in (self._threads, self._uploads, self._sampler):
            pool.shutdown(wait=True, cancel_futures=True)
        self.client.close()
