"""Token buckets with a clock that the test sets."""

import pytest

from indexing.serving.guard import rates
from indexing.serving.guard.rates import RateLimit


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(rates.time, "monotonic", lambda: now[0])
    return now


def test_a_burst_and_then_the_rate(clock: list[float]) -> None:
    limit = RateLimit(10, 3)
    assert [limit.is_exceeded("a") for _ in range(5)] == [False] * 3 + [True] * 2
    assert not limit.is_exceeded("b")
    clock[0] += 0.125
    assert [limit.is_exceeded("a") for _ in range(2)] == [False, True]
    clock[0] += 1000
    assert [limit.is_exceeded("a") for _ in range(4)] == [False] * 3 + [True]


def test_only_many_refusals_in_a_second_are_slow(clock: list[float]) -> None:
    limit = RateLimit(10, 3)
    delays = [limit.refusal_delay_s("a") for _ in range(25)]
    assert delays == [0.0] * 20 + [1.0] * 5
    assert limit.refusal_delay_s("b") == 0
    clock[0] += 1.5
    assert limit.refusal_delay_s("a") == 0
