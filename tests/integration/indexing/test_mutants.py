"""Fifty damaged files in one run: no crash, no hang, no good one lost, and every other explained."""

from collections.abc import Iterator

import pytest

from cluster.ray_session import ray_session
from tests.support.faults.mutants import index_mutants


@pytest.fixture(scope="module", autouse=True)
def ray_of_this_module() -> Iterator[None]:
    with ray_session(num_cpus=2):
        yield


def test_fifty_mutants_cost_nothing_but_themselves(tmp_path, tiny_bundle) -> None:
    found = index_mutants(tmp_path, tiny_bundle, range(50))
    assert (found["mutants_tried"], found["mutants_spans"]) == (50, 100)
    assert 10 < found["mutants_good"] < 90
    assert found["mutants_lost_names"] == []
    assert found["mutants_unexplained"] == 0
    assert found["mutants_crashed"] == 0
