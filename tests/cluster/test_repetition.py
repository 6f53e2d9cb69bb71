import threading

import pytest

from cluster.repetition import repeated, retry


class BusyError(Exception):
    pass


def failing(times: int):
    calls = []

    def call() -> str:
        calls.append(None)
        if len(calls) <= times:
            raise BusyError(f"call {len(calls)}")
        return f"answer of call {len(calls)}"

    return call


def test_waits_double_and_the_answer_of_the_first_success_comes_back() -> None:
    waits: list[float] = []
    answer = retry(failing(2), on=(BusyError,), first_wait_s=0.25, sleep=waits.append)
    assert answer == "answer of call 3"
    assert waits == [0.25, 0.5]


def test_the_last_error_comes_out() -> None:
    with pytest.raises(BusyError, match="call 3"):
        retry(failing(99), on=(BusyError,), attempts=3, sleep=lambda _: None)


def test_an_error_that_is_not_named_is_not_repeated() -> None:
    waits: list[float] = []
    with pytest.raises(BusyError, match="call 1"):
        retry(failing(1), on=(KeyError,), sleep=waits.append)
    assert waits == []


def test_work_repeats_while_the_block_runs_and_not_after_it() -> None:
    calls: list[int] = []
    enough = threading.Event()

    def work() -> None:
        calls.append(1)
        if len(calls) == 3:
            enough.set()

    with repeated(work, every_s=0.01, name="test-repeat"):
        assert enough.wait(30)
    count = len(calls)
    assert "test-repeat" not in {thread.name for thread in threading.enumerate()}
    assert len(calls) == count


def test_an_error_of_the_block_comes_out_and_the_thread_ends() -> None:
    with pytest.raises(OSError, match="disk"), repeated(lambda: None, every_s=9, name="test-error"):
        raise OSError("disk full")
    assert "test-error" not in {thread.name for thread in threading.enumerate()}
