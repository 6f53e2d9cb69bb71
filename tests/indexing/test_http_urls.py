import asyncio
import threading

import pytest

from indexing import http_urls
from indexing.http_guard import ProblemError
from indexing.http_urls import ClipUrls
from indexing.query_url import UrlPolicy


def test_a_refusal_is_the_fault_of_the_request() -> None:
    with pytest.raises(ProblemError, match="are off") as refused:
        asyncio.run(ClipUrls(UrlPolicy()).fetch("http://media.test/a.mp4"))
    assert refused.value.status == 422


def test_more_than_a_few_at_once_are_refused_and_room_comes_back(monkeypatch) -> None:
    gate = threading.Event()

    def slow(_url: str, _policy: UrlPolicy) -> bytes:
        assert gate.wait(5)
        return b"video"

    monkeypatch.setattr(http_urls, "fetch_url", slow)
    urls = ClipUrls(UrlPolicy(hosts=("media.test",)))

    async def ask() -> list[object]:
        tasks = [asyncio.ensure_future(urls.fetch("u")) for _ in range(6)]
        await asyncio.sleep(0.05)
        gate.set()
        return [*await asyncio.gather(*tasks, return_exceptions=True), await urls.fetch("u")]

    answers = asyncio.run(ask())
    assert answers.count(b"video") == 5
    assert [one.status for one in answers if isinstance(one, ProblemError)] == [503, 503]
