"""Readers of hostile input answer every input with a value or with their own error; `make fuzz` and `make test-long` look longer."""

import pytest

from tests.support.faults import fuzz
from tests.support.faults.fuzz import TARGETS, Target


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("seconds", [15, pytest.param(1800, marks=pytest.mark.long)])
def test_no_input_gets_beyond_a_readers_own_errors(name, seconds) -> None:
    found = fuzz.fuzz(name, seconds=seconds)
    assert found.crash is None
    assert found.num_inputs > 100
    assert found.num_lines > 20


def _deep_fault(data: bytes) -> None:
    if data[:1] == b"M":
        if data[1:2] == b"P":
            if data[2:3] == b"4":
                raise IndexError(data)
            return
        return


def test_the_fuzzer_finds_a_fault_behind_three_branches(monkeypatch) -> None:
    """Of one in 16 million inputs at random: only by the lines that it reaches does it get there."""

    class Here:
        __file__ = _deep_fault.__code__.co_filename

    planted = Target(read=_deep_fault, modules=(Here,), seeds=(b"....",))
    monkeypatch.setitem(TARGETS, "planted", planted)
    found = fuzz.fuzz("planted", seconds=20)
    assert found.crash is not None
    assert found.crash[0][:3] == b"MP4"
