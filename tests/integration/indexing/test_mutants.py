"""Damaged files in one run: no crash, no hang, no good one lost, and every other explained."""

from collections.abc import Iterator

import pytest

from cluster.ray_session import ray_session
from tests.support.faults.mutants import index_mutants


@pytest.fixture(scope="module", autouse=True)
def ray_of_this_module() -> Iterator[None]:
    with ray_session(num_cpus=2):
        yield


@pytest.mark.parametrize("num", [25, pytest.param(100, marks=pytest.mark.long)])
def test_mutants_cost_nothing_but_themselves(tmp_path, tiny_bundle, num: int) -> None:
    found = index_mutants(tmp_path, tiny_bundle, range(num))
    assert (found["mutants_tried"], found["mutants_spans"]) == (num, 2 * num)
    assert 0.1 < found["mutants_good"] / (2 * num) < 0.9
    assert found["mutants_lost_names"] == []
    assert found["mutants_unexplained"] == 0
    assert found["mutants_crashed"] == 0
