"""Requests drawn from the service's own OpenAPI document: none is a server error, and answers are as documented."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from benchmarks.search.quality import served
from benchmarks.search.service import TOKEN
from indexing.search.client import SearchClient, SearchOptions
from indexing.serving.app import UPLOAD_LIMITS

CHECKS = [not_a_server_error, response_schema_conformance, status_code_conformance]
NUM_EXAMPLES = 50
AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def api(archive, tiny_bundle) -> Iterator[schemathesis.BaseSchema]:
    options = SearchOptions(num_threads=1, files=False, limits=UPLOAD_LIMITS)
    milvus = str(archive[0] / "milvus")
    with (
        SearchClient(milvus, "clips", tiny_bundle, options=options) as client,
        served(client) as address,
    ):
        yield schemathesis.openapi.from_url(f"{address}/v1/openapi.json", headers=AUTHORIZED)


def test_whatever_the_document_allows_is_answered_as_it_says(api) -> None:
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) >= 6
    for operation in operations:

        @settings(
            max_examples=NUM_EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case) -> None:
            case.call_and_validate(headers=AUTHORIZED, checks=CHECKS, timeout=60)

        ask()
