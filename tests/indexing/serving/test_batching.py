"""The batcher over a counting client: which queries are batched, and which are refused while Milvus is down."""

import asyncio
import threading
import time

import pytest

from indexing.search.collection_snapshot import StillCountingError
from indexing.search.types import ClipPlace, ComposedQuery, SearchResult
from indexing.serving.batching import BatcherConfig, QueryBatcher
from indexing.serving.guard.problems import ProblemError
from indexing.store.client import MilvusBusyError


class CountingClient:
    """Answers when it is let; remembers which queries came together."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.is_away = False
        self.says_when_encoded = False
        self.num_exact, self.exact_s = 0, 0.0

    def search_many(self, queries, *, on_encoded=lambda: None) -> list[SearchResult]:
        self.batches.append([query.edits[0] for query in queries])
        if self.says_when_encoded:
            on_encoded()
        assert self.may_answer.wait(5)
        if queries[0].exact:
            self.num_exact += 1
            time.sleep(self.exact_s)
        if self.is_away:
            raise MilvusBusyError("gone")
        if any(query.edits[0] == "wrong" for query in queries):
            raise ValueError("wrong")
        if any(query.edits[0] == "of all values" for query in queries):
            raise StillCountingError("still being counted")
        place = ClipPlace(clip_id="", video_uri="", start_s=0, end_s=None)
        return [
            SearchResult(query=place, edit_text=query.edits[0], hits=(), backend_used="none")
            for query in queries
        ]

    def close(self) -> None:
        pass


def batcher_over(client: CountingClient, *, sample_share: float = 0.0, **config) -> QueryBatcher:
    return QueryBatcher(client, BatcherConfig(sample_share=sample_share, **config))  # type: ignore[arg-type]


def ask(text: str) -> ComposedQuery:
    return ComposedQuery(edits=(text,))


async def outcome(batcher: QueryBatcher, text: str) -> str | int:
    try:
        return (await batcher.search(ask(text))).edit_text
    except ProblemError as problem:
        return problem.status


async def ask_behind_the_first(
    client: CountingClient, num_others: int, **config
) -> list[str | int]:
    """Outcomes of a query and of others that come while it is answered."""
    client.may_answer.clear()
    batcher = batcher_over(client, **config)
    first = asyncio.create_task(outcome(batcher, "0"))
    while not client.batches:
        await asyncio.sleep(0.001)
    others = [asyncio.create_task(outcome(batcher, str(1 + n))) for n in range(num_others)]
    await asyncio.sleep(0.01)
    client.may_answer.set()
    answers = await asyncio.gather(first, *others)
    batcher.close()
    return answers


def test_queries_that_come_while_others_are_answered_go_together() -> None:
    client = CountingClient()
    answers = asyncio.run(ask_behind_the_first(client, 5, max_batch=3))
    assert answers == ["0", "1", "2", "3", "4", "5"]
    assert client.batches == [["0"], ["1", "2", "3"], ["4", "5"]]


@pytest.mark.parametrize(
    ("max_batches", "while_waiting"), [(1, [["0"]]), (2, [["0"], ["1", "2", "3", "4"]])]
)
def test_the_next_batch_is_encoded_while_one_waits_for_milvus(max_batches, while_waiting) -> None:
    client = CountingClient()
    client.says_when_encoded = True
    client.may_answer.clear()

    async def run() -> tuple[list[list[str]], list[str | int]]:
        batcher = batcher_over(client, max_batches=max_batches)
        asked = [asyncio.create_task(outcome(batcher, "0"))]
        while not client.batches:
            await asyncio.sleep(0.001)
        asked += [asyncio.create_task(outcome(batcher, str(1 + n))) for n in range(4)]
        await asyncio.sleep(0.05)
        under_way = list(client.batches)
        client.may_answer.set()
        answers = await asyncio.gather(*asked)
        batcher.close()
        return under_way, answers

    under_way, answers = asyncio.run(run())
    assert under_way == while_waiting
    assert answers == ["0", "1", "2", "3", "4"]


def test_slow_queries_are_answered_in_small_batches() -> None:
    client = CountingClient()
    answer = client.search_many

    def slow(queries, **how) -> list[SearchResult]:
        time.sleep(0.05 * len(queries))
        return answer(queries, **how)

    client.search_many = slow  # type: ignore[method-assign]

    async def run() -> None:
        batcher = batcher_over(client, max_batch=16, batch_s=0.1, max_batches=1)
        await asyncio.gather(*(outcome(batcher, str(n)) for n in range(60)))
        batcher.close()

    asyncio.run(run())
    assert len(client.batches[0]) == 16
    assert all(len(batch) <= 3 for batch in client.batches[5:])


def test_a_wrong_query_costs_no_other() -> None:
    client = CountingClient()

    async def run() -> list[str | int]:
        batcher = batcher_over(client)
        answers = await asyncio.gather(*(outcome(batcher, text) for text in ("a", "wrong", "b")))
        batcher.close()
        return answers

    assert asyncio.run(run()) == ["a", 422, "b"]


def test_a_query_that_needs_what_is_still_counted_is_refused_alone() -> None:
    async def ask_all() -> list[str | int]:
        batcher = batcher_over(CountingClient())
        answers = [await outcome(batcher, text) for text in ("a", "of all values", "b")]
        batcher.close()
        return answers

    assert asyncio.run(ask_all()) == ["a", 503, "b"]


def test_while_milvus_is_away_queries_are_refused_at_once_and_then_one_tries() -> None:
    client = CountingClient()
    client.is_away = True

    async def run() -> tuple[list[str | int], list[str | int], float, str | int]:
        batcher = batcher_over(client, backoff_s=0.2)
        together = await asyncio.gather(*(outcome(batcher, text) for text in "abc"))
        num_calls = len(client.batches)
        start_s = time.perf_counter()
        later = [await outcome(batcher, text) for text in "de"]
        waited_s = time.perf_counter() - start_s
        assert len(client.batches) == num_calls
        client.is_away = False
        await asyncio.sleep(0.25)
        back = await outcome(batcher, "f")
        batcher.close()
        return together, later, waited_s, back

    together, later, waited_s, back = asyncio.run(run())
    assert together == [503, 503, 503]
    assert later == [503, 503]
    assert waited_s < 0.15
    assert back == "f"
    assert (
        sum(len(batch) for batch in client.batches) == 4
    )  # a failed batch is not asked one by one


def test_one_too_many_in_line_is_refused() -> None:
    client = CountingClient()
    answers = asyncio.run(ask_behind_the_first(client, 4, max_batch=1, max_waiting=2))
    assert sorted(map(str, answers)) == ["0", "1", "2", "503", "503"]


@pytest.mark.parametrize(("exact_s", "num_exact"), [(0.0, 5), (0.3, 1)])
def test_samples_take_a_small_part_of_the_time(exact_s: float, num_exact: int) -> None:
    client = CountingClient()
    client.exact_s = exact_s

    async def run() -> None:
        batcher = batcher_over(client, sample_share=1.0)
        for number in range(5):
            await batcher.search(ComposedQuery(clip="clip/1", edits=(str(number),)))
            await asyncio.sleep(exact_s + 0.1)
        batcher.close()

    asyncio.run(run())
    assert client.num_exact == num_exact


@pytest.mark.parametrize(
    "config",
    [
        {"max_batch": 0},
        {"max_batches": 0},
        {"max_waiting": 0},
        {"sample_share": 2.0},
        {"batch_s": 0},
    ],
)
def test_configs_that_make_no_sense_are_refused(config) -> None:
    with pytest.raises(ValueError, match="must"):
        BatcherConfig(**config)
