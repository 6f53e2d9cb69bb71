"""Load against a made-up service that answers as it is told."""

import threading
import time
from collections.abc import Callable

import pytest

from benchmarks.search import load as load_module
from benchmarks.search.load import Queries, at_rate, closed_loop, recovery_s
from benchmarks.search.service import Reply, Service


class MadeUpService:
    """Waits and answers with the status that a function of the number of the query gives."""

    def __init__(self, status: Callable[[int], int], *, seconds: float = 0.0) -> None:
        self.status, self.seconds, self.num_asked = status, seconds, 0
        self.texts: list[str] = []
        self._lock = threading.Lock()

    def client(self) -> "MadeUpService":
        return self

    def ask(self, query) -> Reply:
        with self._lock:
            number, self.num_asked = self.num_asked, self.num_asked + 1
            self.texts.append(query["edits"][0])
        time.sleep(self.seconds)
        return Reply(status=self.status(number), body={}, seconds=self.seconds)

    def memory_mib(self) -> float:
        return 1.0

    def close(self) -> None:
        pass


def service(*args, **kwargs) -> Service:
    return MadeUpService(*args, **kwargs)  # type: ignore[return-value]


def test_no_text_is_asked_twice() -> None:
    made_up = MadeUpService(lambda _n: 200, seconds=0.001)
    queries = Queries(["a", "b"])
    load = closed_loop(made_up, queries, num_clients=4, seconds=0.2)  # type: ignore[arg-type]
    assert len(set(made_up.texts)) == len(made_up.texts) == len(load.replies) > 100
    assert load.num_errors() == 0
    assert load.qps() == pytest.approx(len(load.replies) / load.seconds)


def test_a_rate_is_kept_however_slow_the_answers_are() -> None:
    slow = service(lambda n: 200 if n % 10 else 503, seconds=0.3)
    load = at_rate(slow, Queries(["a"]), per_s=100, seconds=0.5)
    assert len(load.replies) == 50
    assert load.statuses() == {200: 45, 503: 5}
    assert load.num_errors() == 5
    assert load.quantile_ms(50, statuses=(503,)) == pytest.approx(300)


def test_recovery_is_the_first_of_several_good_answers_in_a_row() -> None:
    good_again = service(lambda n: 503 if n < 4 or n == 6 else 200)
    took_s = recovery_s(good_again, Queries(["a"]), normal_ms=100)
    assert took_s == pytest.approx(
        0.25, abs=0.1
    )  # after the fifth refusal, each followed by 0.05 s


def test_a_service_that_stays_slow_has_not_recovered(monkeypatch) -> None:
    monkeypatch.setattr(load_module, "_RECOVERY_S", 0.3)
    slow = service(lambda _n: 200, seconds=0.03)
    assert recovery_s(slow, Queries(["a"]), normal_ms=10) is None
