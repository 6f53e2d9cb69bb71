import threading

import pytest

from cluster.periodic import repeated


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
