"""Readers of hostile input answer every input with a value or with their own error; `make fuzz` and `make test-long` look longer."""

import pytest

from tests.support.faults.fuzz import fuzz
from tests.support.faults.fuzz_targets import TARGETS as READERS
from tests.support.faults.fuzz_targets import Target


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("seconds", [15, pytest.param(1800, marks=pytest.mark.long)])
def test_no_input_gets_beyond_a_readers_own_errors(name, seconds) -> None:
    found = fuzz(name, seconds=seconds)
    assert found.crash is None
    assert found.num_inputs > 1000
    assert found.num_branches > 20


def _fail_behind_three_branches(data: bytes) -> None:
    if data[:1] == b"M":
        if data[1:2] == b"P":
            if data[2:3] == b"4":
                raise IndexError(data)
            return
        return


def _never_end(data: bytes) -> None:
    while data:
        pass


TARGETS = {
    "deep": Target(read=_fail_behind_three_branches, seeds=(b"....",)),
    "endless": Target(read=_never_end, seeds=(b"....",)),
}


@pytest.mark.parametrize(("name", "reason"), [("deep", "IndexError"), ("endless", "timeout")])
def test_the_fuzzer_finds_a_fault_that_was_planted(name, reason) -> None:
    """One of 16 million inputs at random, or one that takes for ever."""
    found = fuzz(name, seconds=60, module=__name__)
    assert found.crash is not None
    assert reason in found.crash[1]
    assert name != "deep" or found.crash[0][:3] == b"MP4"
