"""Queues with calls that wait for an event: who comes when, what is dropped, what is stopped."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from indexing.serving.guard.problems import ProblemError
from indexing.serving.guard.work_queue import FairQueue, StopSignal, WorkQueue


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 10))


def test_clients_take_turns_and_each_has_a_line_of_its_own() -> None:
    queue: FairQueue[str] = FairQueue(5, 3)
    for item in ("a1", "a2", "a3", "b1", "b2"):
        queue.put(item[0], item)
    for client in ("a", "c"):  # its own line is full, the line of all is full
        with pytest.raises(ProblemError) as refused:
            queue.put(client, "x")
        assert refused.value.status == 503
    queue.discard("a", "a2")
    queue.discard("a", "gone")
    assert [queue.pop() for _ in range(len(queue))] == ["a1", "b1", "a3", "b2"]
    with pytest.raises(KeyError):
        queue.pop()


def test_what_nobody_waits_for_is_dropped_before_it_starts() -> None:
    gate, started = threading.Event(), []

    async def test() -> None:
        queue: WorkQueue[str] = WorkQueue("work", deadline_s=5)

        def call(name: str) -> Callable[[StopSignal], str]:
            def work(_stop: StopSignal) -> str:
                started.append(name)
                assert gate.wait(5)
                return name

            return work

        tasks = [asyncio.create_task(queue.run(n, call(n), client=n)) for n in ("a", "b", "c")]
        await asyncio.sleep(0.05)
        tasks[1].cancel()
        await asyncio.sleep(0)
        gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [answers[0], answers[2]] == ["a", "c"]
        assert started == ["a", "c"]
        queue.close()

    run(test)


def test_requests_for_one_thing_share_one_call_and_the_last_to_leave_stops_it() -> None:
    calls, stopped = [], threading.Event()

    async def test() -> None:
        queue: WorkQueue[str] = WorkQueue("work", deadline_s=5)

        def work(stop: StopSignal) -> str:
            calls.append(1)
            with stop.calling(stopped.set):
                stopped.wait(5)
            raise ProblemError(422, "was stopped")

        tasks = [asyncio.create_task(queue.run("k", work, client="a")) for _ in range(3)]
        await asyncio.sleep(0.05)
        for task in tasks[:2]:
            task.cancel()
        await asyncio.sleep(0.05)
        assert not stopped.is_set()
        tasks[2].cancel()
        await asyncio.sleep(0.05)
        assert stopped.is_set()
        assert calls == [1]
        # Stopped because nobody wanted it, which says nothing of the thing itself.
        assert await queue.run("k", lambda _stop: "now", client="a") == "now"
        queue.close()

    run(test)


def test_a_call_past_its_deadline_is_stopped_and_remembered() -> None:
    async def test() -> None:
        queue: WorkQueue[str] = WorkQueue("work", deadline_s=0.1, remember_failure_s=0.3)
        calls = []

        def work(stop: StopSignal) -> str:
            calls.append(1)
            ended = threading.Event()
            with stop.calling(ended.set):
                assert ended.wait(5)
            raise ProblemError(422, "was stopped")

        for _ in range(3):
            with pytest.raises(ProblemError, match=r"more than 0\.1 s") as late:
                await queue.run("k", work, client="a")
            assert late.value.status == 504
        assert calls == [1]
        await asyncio.sleep(0.35)
        assert await queue.run("k", lambda _stop: "again", client="a") == "again"
        queue.close()

    run(test)


def test_a_flood_of_one_client_costs_another_one_turn() -> None:
    async def test() -> None:
        queue: WorkQueue[str] = WorkQueue("work", deadline_s=5, max_waiting=8, max_per_client=4)

        def work(_stop: StopSignal) -> str:
            time.sleep(0.05)
            return "done"

        flood = [asyncio.create_task(queue.run(n, work, client="a")) for n in range(20)]
        await asyncio.sleep(0.01)
        start_s = time.monotonic()
        assert await queue.run("mine", work, client="b") == "done"
        assert time.monotonic() - start_s < 0.2
        answers = await asyncio.gather(*flood, return_exceptions=True)
        assert answers.count("done") == 5
        assert {a.status for a in answers if isinstance(a, ProblemError)} == {503}
        queue.close()

    run(test)
